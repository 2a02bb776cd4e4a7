import { useState } from 'preact/hooks';
import { call, get, type Consent, type Policy, type Purpose, type User } from '../api';
import { heard, newest } from '../decide';
import { date, dateTime, lang, learn, table, word } from '../i18n';
import { PolicyText } from '../policy';
import { isAdmin, notices, session } from '../session';
import { useStore } from '../store';
import { Button, Dialog, Empty, Field, Head, Note, ProblemNote, save, say, Show, Switch, useAct, useLoad } from '../ui';
import en from './en.json';
import zh from './zh.json';
import server from './server.zh.json';

learn(server);

const g = table(en, zh);

interface Link {
  username: string;
  since: string | null;
  stands: boolean;
}
interface Child {
  id: string;
  username: string;
  of_age: string;
  grown: boolean;
  guarded: boolean;
  stands: boolean;
  guardians: Link[];
  requests: { id: string; purpose: string; asked: string; answer: 'yes' | 'no' | null; answered: string | null }[];
  erasures: { purpose: string; due: string; now: boolean; begun: boolean }[];
  deletions: Deletion[];
}
interface Deletion {
  purpose: string;
  title: Record<string, string>;
  files: number;
  deleted: string;
}
interface Guardianship {
  children: Child[];
  self: Child[];
  deletions: Deletion[];
}
interface Texts {
  policy: Policy;
  purposes: Purpose[];
}

const month = (m: string) => new Intl.DateTimeFormat(lang.value === 'zh' ? 'zh-CN' : 'en', { year: 'numeric', month: 'long', timeZone: 'UTC' }).format(new Date(m + '-01T00:00:00Z'));
const titleOf = (texts: Texts, id: string) => texts.purposes.find((p) => p.id === id)?.title ?? id;

/** Who decides for whom: a child sees its guardian here, a guardian the children. */
export default function GuardianPage() {
  const news = useStore(notices).at(-1)?.id; // what the other side did shows here
  const all = useLoad(async () => {
    const [mine, policy, { purposes }] = await Promise.all([
      get<Guardianship>('/v1/guardianship'),
      get<Policy>(`/v1/policy?lang=${lang.value}`),
      get<{ purposes: Purpose[] }>(`/v1/purposes?lang=${lang.value}`),
    ]);
    return { mine, texts: { policy, purposes: purposes.filter((p) => p.available) } };
  }, [lang.value, news]);
  return (
    <>
      <Head title={g('title')} text={g('text')} />
      <Show of={all}>
        {({ mine, texts }) => (
          <>
            {mine.self.map((c) => c.grown ? <Grown key={c.id} /> : <Self key={c.id} child={c} texts={texts} changed={all.reload} />)}
            {mine.self.length === 0 && mine.children.length === 0 && <section class="card"><Empty icon="consents" title={g('none')}><p>{g('noneText')}</p></Empty></section>}
            {mine.children.map((c) => c.stands ? <OneChild key={c.id} child={c} texts={texts} changed={all.reload} /> : <Invitation key={c.id} child={c} changed={all.reload} />)}
            {mine.deletions.length > 0 && <section class="card"><Deletions list={mine.deletions} texts={texts} /></section>}
          </>
        )}
      </Show>
      {isAdmin(session.value.me!) && <Children />}
    </>
  );
}

function Grown() {
  return (
    <section class="card wanted">
      <h2>{g('grown')}</h2>
      <p>{g('grownText')}</p>
      <p><a class="button main" href="#/consents">{g('toConsents')}</a></p>
    </section>
  );
}

function Links({ list }: { list: Link[] }) {
  return (
    <ul class="lines">
      {list.map((l) => (
        <li key={l.username}>
          <span class="line-main"><strong>{l.username}</strong><small>{g(!l.since ? 'waits' : l.stands ? 'stands' : 'off')}</small></span>
        </li>
      ))}
    </ul>
  );
}

/** A child's own view: who decides, what was asked, what may be asked. */
function Self({ child, texts, changed }: { child: Child; texts: Texts; changed: () => void }) {
  const consents = useLoad(async () => (await get<{ consents: Consent[] }>('/v1/consents')).consents.filter((c) => !c.device), [child]);
  const act = useAct();
  const run = (what: () => Promise<unknown>, said = '') =>
    void act.run(async () => {
      await what();
      changed();
      if (said) say(said);
    });
  return (
    <section class="card">
      <h2>{g('self')}</h2>
      <p>{g('selfText', { month: month(child.of_age) })}</p>
      {!child.guarded && <Note kind="warn" icon="warn">{g('standsNone')}</Note>}
      <Links list={child.guardians} />
      <Due child={child} texts={texts} />
      {act.problem && <ProblemNote problem={act.problem} />}
      <Show of={consents}>
        {(states) => (
          <ul class="lines">
            {texts.purposes.map((p) => {
              const state = states.find((s) => s.purpose === p.id)?.state ?? 'never';
              const last = child.requests.find((q) => q.purpose === p.id);
              const open = last && last.answer === null ? last : null;
              return (
                <li key={p.id}>
                  <span class="line-main">
                    <strong>{p.title} <span class={state === 'granted' ? 'tag good' : 'tag'}>{word('state', state)}</span></strong>
                    <small>{open ? g('asked', { time: dateTime(open.asked) }) : last?.answer === 'no' && state !== 'granted' ? g('answeredNo', { time: dateTime(last.answered!) }) : p.what}</small>
                  </span>
                  <span class="line-acts">
                    {state === 'granted' ? (
                      <Button kind="quiet" busy={act.busy} aria-label={g('sayNoOne', { purpose: p.title })} onClick={() => run(() => call('DELETE', '/v1/consents/' + p.id), g('saidNo', { purpose: p.title }))}>{g('sayNo')}</Button>
                    ) : open ? (
                      <Button kind="quiet" busy={act.busy} aria-label={g('takeBackOne', { purpose: p.title })} onClick={() => run(() => call('DELETE', '/v1/guardianship/requests/' + open.id))}>{g('takeBack')}</Button>
                    ) : (
                      <Button busy={act.busy} aria-label={g('askOne', { purpose: p.title })} onClick={() => run(() => call('POST', '/v1/guardianship/requests', { purpose: p.id }), g('askedSaid'))}>{g('ask')}</Button>
                    )}
                  </span>
                </li>
              );
            })}
          </ul>
        )}
      </Show>
    </section>
  );
}

/** What is to be deleted, and when; a guardian may have it done now. */
function Due({ child, texts, onNow }: { child: Child; texts: Texts; onNow?: (purpose: string) => void }) {
  return (
    <>
      {child.erasures.map((e) => {
        const purpose = titleOf(texts, e.purpose);
        const going = e.now || e.begun;
        return (
          <Note kind="warn" icon="trash" key={e.purpose}>
            <p>{going ? g('deleting', { purpose }) : g(e.purpose === 'storage' ? 'dueAll' : 'due', { purpose, date: date(e.due) })}</p>
            {onNow && !going && <p><Button kind="danger" onClick={() => onNow(e.purpose)}>{g('deleteNow')}</Button></p>}
          </Note>
        );
      })}
    </>
  );
}

function Deletions({ list, texts }: { list: Deletion[]; texts: Texts }) {
  if (list.length === 0) return null;
  return (
    <details class="more">
      <summary>{g('deleted')}</summary>
      <p class="hint">{g('deletedText')}</p>
      <ul class="lines">
        {list.map((d) => (
          <li key={d.deleted + d.purpose}>
            <span class="line-main"><strong>{g('deletedOne', { purpose: d.title[lang.value] ?? titleOf(texts, d.purpose), n: d.files, time: dateTime(d.deleted) })}</strong></span>
            <span class="line-acts"><Button kind="quiet" icon="download" aria-label={g('receipt')} onClick={() => keep(d, `deletion-${d.purpose}-${d.deleted.slice(0, 10)}`)} /></span>
          </li>
        ))}
      </ul>
    </details>
  );
}

const keep = (what: unknown, name: string) => save(JSON.stringify(what, null, 2) + '\n', 'application/json', `yunbox-${name}.json`);

function Invitation({ child, changed }: { child: Child; changed: () => void }) {
  const act = useAct();
  const path = '/v1/children/' + child.id;
  return (
    <section class="card wanted">
      <h2>{g('child', { name: child.username, month: month(child.of_age) })}</h2>
      <p>{g('invited', { name: child.username })}</p>
      {act.problem && <ProblemNote problem={act.problem} />}
      <div class="row-end">
        <Button busy={act.busy} onClick={() => void act.run(async () => { await call('DELETE', path); changed(); })}>{g('decline')}</Button>
        <Button kind="main" busy={act.busy} onClick={() => void act.run(async () => {
          await call('PUT', path, { accepted: true });
          changed();
          say(g('accepted', { name: child.username }));
        })}>{g('accept')}</Button>
      </div>
    </section>
  );
}

/** A guardian's view of one child. */
function OneChild({ child, texts, changed }: { child: Child; texts: Texts; changed: () => void }) {
  const path = '/v1/children/' + child.id;
  const name = child.username;
  const consents = useLoad(async () => (await get<{ consents: Consent[] }>(path + '/consents')).consents, [child]);
  const [erasing, erase] = useState<string | null>(null);
  const [leaving, leave] = useState(false);
  const [other, setOther] = useState('');
  const act = useAct();
  const run = (what: () => Promise<unknown>, said = '') =>
    act.run(async () => {
      await what().finally(changed);
      if (said) say(said);
    });
  const open = child.requests.filter((q) => q.answer === null);
  const answer = ({ id, purpose }: Child['requests'][number], yes: boolean) => () =>
    void run(() => heard(call('PUT', '/v1/guardianship/requests/' + id, yes ? { answer: 'yes', policy_revision: texts.policy.revision, after: newest(consents.value ?? [], purpose) } : { answer: 'no' })));
  return (
    <section class="card">
      <h2>{g('child', { name, month: month(child.of_age) })}</h2>
      {act.problem && !erasing && !leaving && <ProblemNote problem={act.problem} />}
      {open.length > 0 && (
        <>
          <h3>{g('requests', { name })}</h3>
          <ul class="lines">
            {open.map((q) => {
              const purpose = titleOf(texts, q.purpose);
              return (
                <li key={q.id}>
                  <span class="line-main"><strong>{g('request', { purpose, time: dateTime(q.asked) })}</strong></span>
                  <span class="line-acts">
                    <Button busy={act.busy} aria-label={g('noOne', { purpose, name })} onClick={answer(q, false)}>{g('no')}</Button>
                    <Button kind="main" busy={act.busy} aria-label={g('yesOne', { purpose, name })} onClick={answer(q, true)}>{g('yes')}</Button>
                  </span>
                </li>
              );
            })}
          </ul>
        </>
      )}
      <Due child={child} texts={texts} onNow={(p) => { act.clear(); erase(p); }} />
      <Show of={consents}>
        {(states) => {
          const on = (id: string) => states.find((s) => s.purpose === id)?.granted ?? false;
          const set = (p: Purpose, yes: boolean) =>
            void run(() => yes ? heard(call('PUT', `${path}/consents/${p.id}`, { granted: true, policy_revision: texts.policy.revision, after: newest(states, p.id) })) : call('DELETE', `${path}/consents/${p.id}`),
              g(yes ? 'on' : 'offSaid', { name, purpose: p.title }));
          const core = texts.purposes.find((p) => p.core);
          return (
            <>
              {core && <Core policy={texts.policy} name={name} accepted={on(core.id)} busy={act.busy} set={(yes) => set(core, yes)} />}
              <h3>{g('purposes', { name })}</h3>
              {core && !on(core.id) && <p class="hint">{g('policyFirst')}</p>}
              {texts.purposes.filter((p) => !p.core).map((p) => (
                <div class="device-row" key={p.id}>
                  <div>
                    <strong>{p.title}</strong> <span class="tag">{word('state', states.find((s) => s.purpose === p.id)?.state ?? 'never')}</span>
                    <div class="hint">{p.what} {p.retention}</div>
                  </div>
                  <Switch label={`${p.title}: ${name}`} checked={on(p.id)} busy={act.busy} onChange={(yes) => set(p, yes)} />
                </div>
              ))}
            </>
          );
        }}
      </Show>
      <Deletions list={child.deletions} texts={texts} />
      <details class="more">
        <summary>{g('receipts')}</summary>
        <p><Button icon="download" busy={act.busy} onClick={() => void run(async () => keep((await get<{ receipts: unknown[] }>(path + '/receipts')).receipts, `receipts-${child.id}`))}>{g('receiptsSave', { name })}</Button></p>
      </details>
      <details class="more">
        <summary>{g('other')}</summary>
        <ul class="lines">
          {child.guardians.map((l) => (
            <li key={l.username}><span class="line-main"><strong>{l.username}</strong>{l.username === session.value.me!.username ? <small>{g('you')}</small> : !l.since && <small>{g('waits')}</small>}</span></li>
          ))}
        </ul>
        <p class="hint">{g('shareText')}</p>
        <form class="inline-form" onSubmit={async (e) => {
          e.preventDefault();
          if (await run(() => call('POST', path + '/guardians', { username: other.trim() }), g('shared', { name: other.trim() }))) setOther('');
        }}>
          <Field label={g('shareName')} value={other} onInput={setOther} required maxLength={64} autocomplete="off" autocapitalize="off" spellcheck={false} />
          <Button type="submit" busy={act.busy}>{g('share')}</Button>
        </form>
        <div class="row-end"><Button kind="danger" onClick={() => { act.clear(); leave(true); }}>{g('leave')}</Button></div>
      </details>
      {erasing && (
        <Sure title={g('deleteSure')} text={g('deleteText', { purpose: titleOf(texts, erasing), name })} act={g('deleteNow')} of={act} onClose={() => erase(null)}
          onSure={async () => { if (await run(() => call('DELETE', `${path}/data/${erasing}`), g('deleteBegun'))) erase(null); }} />
      )}
      {leaving && (
        <Sure title={g('leaveSure', { name })} text={g('leaveText', { name })} act={g('leave')} of={act} onClose={() => leave(false)}
          onSure={async () => { if (await run(() => call('DELETE', path), g('left', { name }))) leave(false); }} />
      )}
    </section>
  );
}

function Sure({ title, text, act, of, onClose, onSure }: { title: string; text: string; act: string; of: ReturnType<typeof useAct>; onClose: () => void; onSure: () => void }) {
  return (
    <Dialog title={title} onClose={onClose}>
      <p>{text}</p>
      {of.problem && <ProblemNote problem={of.problem} />}
      <div class="row-end"><Button onClick={onClose}>{g('no')}</Button><Button kind="danger" busy={of.busy} onClick={onSure}>{act}</Button></div>
    </Dialog>
  );
}

/** The policy, accepted for the child. */
function Core({ policy, name, accepted, busy, set }: { policy: Policy; name: string; accepted: boolean; busy: boolean; set: (yes: boolean) => void }) {
  const [read, setRead] = useState(false);
  return (
    <>
      <h3>{g('policy', { name })}</h3>
      <details class="more" open={!accepted || undefined}>
        <summary>{g('policy', { name })}</summary>
        <PolicyText of={{ value: policy, problem: null, busy: false, reload: () => {} }} />
      </details>
      {accepted ? <div class="row-end"><Button busy={busy} onClick={() => { setRead(false); set(false); }}>{g('policyWithdraw')}</Button></div> : (
        <div class="accept">
          <label class="check">
            <input type="checkbox" checked={read} onChange={(e) => setRead(e.currentTarget.checked)} />
            <span>{g('policyTick', { revision: policy.revision, name })}</span>
          </label>
          <Button kind="main" busy={busy} onClick={() => { if (read) set(true); }}>{g('policyAccept', { name })}</Button>
        </div>
      )}
    </>
  );
}

/** Who stands for whom, for who manages the box. */
function Children() {
  const list = useLoad(async () => {
    const { users } = await get<{ users: User[] }>('/v1/users');
    return Promise.all(users.filter((u) => u.role === 'child').map((u) => get<Child>(`/v1/users/${u.id}/guardians`)));
  }, []);
  return (
    <section class="card">
      <h2>{g('admin')}</h2>
      <p>{g('adminText')}</p>
      <Show of={list}>
        {(all) => all.length === 0 ? <p class="hint">{g('adminNone')}</p> : <>{all.map((c) => <Managed key={c.id} child={c} changed={list.reload} />)}</>}
      </Show>
    </section>
  );
}

function Managed({ child, changed }: { child: Child; changed: () => void }) {
  const [guardian, setGuardian] = useState('');
  const act = useAct();
  const path = `/v1/users/${child.id}/guardians`;
  const run = (what: () => Promise<unknown>, said: string) =>
    act.run(async () => {
      await what();
      changed();
      say(said);
    });
  return (
    <>
      <h3>{g('child', { name: child.username, month: month(child.of_age) })}</h3>
      {child.grown ? <p class="hint">{g('adminGrown')}</p> : !child.guarded && <Note kind="warn" icon="warn">{g('alone')}</Note>}
      <ul class="lines">
        {child.guardians.map((l) => (
          <li key={l.username}>
            <span class="line-main"><strong>{l.username}</strong>{!l.since && <small>{g('waits')}</small>}{l.since && !l.stands && <small>{g('off')}</small>}</span>
            <span class="line-acts">
              <Button kind="quiet" busy={act.busy} aria-label={g('removeOne', { guardian: l.username, name: child.username })}
                onClick={() => void run(() => call('DELETE', `${path}/${encodeURIComponent(l.username)}`), g('removed', { guardian: l.username, name: child.username }))}>{g('remove')}</Button>
            </span>
          </li>
        ))}
      </ul>
      {act.problem && <ProblemNote problem={act.problem} />}
      {!child.grown && !child.guarded && (
        <form class="inline-form" onSubmit={async (e) => {
          e.preventDefault();
          if (await run(() => call('POST', path, { username: guardian.trim() }), g('shared', { name: guardian.trim() }))) setGuardian('');
        }}>
          <Field label={g('name', { name: child.username })} value={guardian} onInput={setGuardian} required maxLength={64} autocomplete="off" autocapitalize="off" spellcheck={false} />
          <Button type="submit" busy={act.busy}>{g('share')}</Button>
        </form>
      )}
    </>
  );
}

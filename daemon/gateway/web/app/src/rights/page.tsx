import { useEffect, useState } from 'preact/hooks';
import { call, get, type User } from '../api';
import { Icon } from '../icons';
import { date, lang, learn, size, table, word } from '../i18n';
import { href, route } from '../route';
import { isAdmin, session } from '../session';
import { useStore } from '../store';
import { Button, copy, Dialog, Empty, Field, Head, Note, ProblemNote, save, say, Show, useAct, useLoad } from '../ui';
import en from './en.json';
import zh from './zh.json';
import server from './server.zh.json';
import { Ask, type Request } from './ask';
import { Owner } from './owner';

export { Outside } from './outside';

learn(server);

const r = table(en, zh);

interface Words { en: string; zh: string }
const said = (w: Words) => (lang.value === 'zh' ? w.zh : w.en);

interface Category { id: string; title: Words; erasable: boolean; purposes: string[]; period?: Period }
interface Period { days: number; min: number; max: number; never: boolean; next?: string }
interface Fate { category: string; title: Words; records: number; bytes: number; stays?: Words }
interface Job { id: string; category: string | null; purpose: string | null; done: boolean; erased: number }
interface Cancellation {
  stage: string;
  due: string;
  asked_by: 'person' | 'manager';
  hand_over_to: string | null;
  accepted: boolean;
  trouble: keyof typeof troubles | null;
}
interface Handover { id: string; from: string; due: string; files: number; bytes: number; accepted: boolean; refused: boolean }

const troubles = { refused: 'refused', unanswered: 'unanswered', quota: 'quota', consent: 'consent', failed: 'failed' } as const;

/** Erasing, cancelling, and asking whoever runs the box. */
export default function RightsPage() {
  const { rest } = useStore(route);
  const me = session.value.me!;
  return (
    <>
      <Head title={r('title')} text={r('text')} />
      <Owner />
      <Offers />
      <Erase chosen={rest} />
      <Cancel />
      <Requests />
      {isAdmin(me) && <Everybody />}
      {isAdmin(me) && <Remove />}
      {me.role === 'owner' && <Periods />}
    </>
  );
}

/** What is to be erased, what that takes, and only then the act. */
function Erase({ chosen }: { chosen: string }) {
  const data = useLoad(() => get<{ categories: Category[] }>('/v1/me/data'), []);
  const purposes = useLoad(() => get<{ purposes: { id: string; title: string }[] }>('/v1/purposes?lang=' + lang.value), [lang.value]);
  const jobs = useLoad(() => get<{ erasures: Job[] }>('/v1/me/erasures'), []);
  const [what, setWhat] = useState(chosen ? 'c:' + chosen : '');
  const [trash, setTrash] = useState(false);
  const [plan, setPlan] = useState<Fate[] | null>(null);
  const act = useAct();
  useEffect(() => setWhat(chosen ? 'c:' + chosen : ''), [chosen]);
  const query = () => {
    const q = new URLSearchParams();
    if (what.startsWith('c:')) q.set('category', what.slice(2));
    if (what.startsWith('p:')) q.set('purpose', what.slice(2));
    if (trash) q.set('trash', 'true');
    return q;
  };
  const look = () => act.run(async () => setPlan((await get<{ categories: Fate[] }>('/v1/me/erasures/preview?' + query())).categories));
  const erase = async () => {
    const q = query();
    q.delete('category');
    if (what === 'all') q.set('what', 'everything');
    const done = await act.run(async () => {
      const job = await call<Job>('DELETE', (what.startsWith('c:') ? '/v1/me/data/' + what.slice(2) : '/v1/me/data') + '?' + q);
      say(job.done ? r('erased') : r('erasing'));
    });
    if (done) {
      setPlan(null);
      jobs.reload();
    }
  };
  return (
    <section class="card">
      <h2>{r('eraseTitle')}</h2>
      <p>{r('eraseText')}</p>
      <Show of={data}>
        {(d) => (
          <form onSubmit={(e) => { e.preventDefault(); void look(); }}>
            <div class="field">
              <label for="erase-what">{r('what')}</label>
              <select id="erase-what" class="input" value={what} onChange={(e) => setWhat(e.currentTarget.value)} required>
                <option value="">{r('choose')}</option>
                <optgroup label={r('byKind')}>
                  {d.categories.filter((c) => c.erasable).map((c) => <option value={'c:' + c.id}>{said(c.title)}</option>)}
                </optgroup>
                <optgroup label={r('byPurpose')}>
                  {purposes.value?.purposes.filter((p) => d.categories.some((c) => c.purposes.includes(p.id))).map((p) => <option value={'p:' + p.id}>{p.title}</option>)}
                </optgroup>
                <option value="all">{r('everything')}</option>
              </select>
            </div>
            <label class="check"><input type="checkbox" checked={trash} onChange={(e) => setTrash(e.currentTarget.checked)} /><span>{r('intoTrash')}</span></label>
            {act.problem && !plan && <ProblemNote problem={act.problem} />}
            <div class="row-end"><Button type="submit" busy={act.busy}>{r('look')}</Button></div>
          </form>
        )}
      </Show>
      {jobs.value?.erasures.map((j) => <Note icon="again">{r(j.done ? 'jobDone' : 'jobGoes', { n: j.erased })}</Note>)}
      {plan && (
        <Dialog title={r('eraseTitle')} onClose={() => setPlan(null)}>
          {plan.length === 0 && <p>{r('nothing')}</p>}
          <ul class="lines">
            {plan.map((f) => (
              <li>
                <span class="line-main">
                  <strong>{said(f.title)}</strong>
                  <small>{f.stays ? r('stays', { why: said(f.stays) }) : r('goes', { n: f.records }) + (f.bytes > 0 ? ' · ' + size(f.bytes) : '')}</small>
                </span>
              </li>
            ))}
          </ul>
          <Note kind="warn" icon="warn">{r(trash ? 'trashNote' : 'forGood')}</Note>
          {act.problem && <ProblemNote problem={act.problem} />}
          <div class="row-end">
            <Button onClick={() => setPlan(null)}>{r('back')}</Button>
            {plan.some((f) => !f.stays) && <Button kind="danger" busy={act.busy} onClick={() => void erase()}>{r('eraseNow')}</Button>}
          </div>
        </Dialog>
      )}
    </section>
  );
}

/** Cancelling the account: what becomes of the files, the time to think, the way back. */
function Cancel() {
  const [now, set] = useState<Cancellation | null | undefined>(undefined);
  const [files, setFiles] = useState<'erase' | 'hand-over'>('erase');
  const [to, setTo] = useState('');
  const [sure, ask] = useState(false);
  const [code, setCode] = useState('');
  const act = useAct();
  const look = async () => {
    try {
      set(await get<Cancellation>('/v1/me/cancellation'));
    } catch {
      set(null);
    }
  };
  useEffect(() => void look(), []);
  const cancel = async () => {
    const done = await act.run(async () => {
      const c = await call<Cancellation & { code: string }>('POST', '/v1/me/cancellation', { files, ...(files === 'hand-over' && { to: to.trim() }) });
      setCode(c.code);
      set(c);
    });
    if (done) ask(false);
  };
  const keep = () =>
    act.run(async () => {
      await call('DELETE', '/v1/me/cancellation');
      set(null);
      setCode('');
      say(r('kept'));
    });
  const another = () => act.run(async () => setCode((await call<{ code: string }>('POST', '/v1/me/cancellation/code')).code));
  if (session.value.me!.role === 'owner') {
    return <section class="card"><h2>{r('cancelTitle')}</h2><p>{r('owner')}</p></section>;
  }
  return (
    <section class="card">
      <h2>{r('cancelTitle')}</h2>
      {now === null && (
        <>
          <p>{r('cancelText')}</p>
          <p><a href={href('data')}>{r('exportFirst')}</a></p>
          <form onSubmit={(e) => { e.preventDefault(); ask(true); }}>
            <label class="check"><input type="radio" name="files" checked={files === 'erase'} onChange={() => setFiles('erase')} /><span>{r('filesErase')}</span></label>
            <label class="check"><input type="radio" name="files" checked={files === 'hand-over'} onChange={() => setFiles('hand-over')} /><span>{r('filesHand')}</span></label>
            {files === 'hand-over' && <Field label={r('handTo')} value={to} onInput={setTo} required autocomplete="off" autocapitalize="off" spellcheck={false} hint={r('handHint')} />}
            <div class="row-end"><Button kind="danger" type="submit">{r('cancel')}</Button></div>
          </form>
        </>
      )}
      {now && (
        <>
          <Note kind="warn" icon="warn">
            <strong>{r(now.stage === 'waiting' ? 'leaves' : 'goesNow', { date: date(now.due) })}</strong>
            <p>{r('meanwhile')}</p>
            {now.hand_over_to && <p>{r(now.accepted ? 'handYes' : 'handWait', { name: now.hand_over_to })}</p>}
            {now.trouble && <p>{r(troubles[now.trouble])}</p>}
          </Note>
          {now.stage === 'waiting' && (
            <div class="row-end">
              <Button busy={act.busy} onClick={() => void another()}>{r('newCode')}</Button>
              {now.asked_by === 'person' && <Button kind="main" busy={act.busy} onClick={() => void keep()}>{r('keep')}</Button>}
            </div>
          )}
        </>
      )}
      {code && (
        <Note icon="receipt">
          <strong>{r('codeTitle')}</strong>
          <p><code class="wrap">{code}</code></p>
          <p>{r('codeText')}</p>
          <div class="row-end">
            <Button icon="copy" onClick={() => void copy(code)}>{r('copy')}</Button>
            <Button icon="download" onClick={() => save(r('codeFile', { box: session.value.box!.name, code, address: location.origin + '/' + href('ask') }), 'text/plain', 'yunbox-receipt-code.txt')}>{r('saveCode')}</Button>
          </div>
        </Note>
      )}
      {act.problem && !sure && <ProblemNote problem={act.problem} />}
      {sure && (
        <Dialog title={r('cancelTitle')} onClose={() => ask(false)}>
          <p>{r(files === 'erase' ? 'sureErase' : 'sureHand', { name: to })}</p>
          {act.problem && <ProblemNote problem={act.problem} />}
          <div class="row-end"><Button onClick={() => ask(false)}>{r('back')}</Button><Button kind="danger" busy={act.busy} onClick={() => void cancel()}>{r('cancel')}</Button></div>
        </Dialog>
      )}
    </section>
  );
}

/** Files that somebody who leaves offers. */
function Offers() {
  const offers = useLoad(() => get<{ handovers: Handover[] }>('/v1/handovers'), []);
  const act = useAct();
  const answer = (h: Handover, accept: boolean) =>
    act.run(async () => {
      await call('PUT', '/v1/handovers/' + h.id, { accept });
      offers.reload();
    });
  if (!offers.value?.handovers.length) return null;
  return (
    <section class="card wanted">
      <h2>{r('offersTitle')}</h2>
      <ul class="lines">
        {offers.value.handovers.map((h) => (
          <li key={h.id}>
            <span class="thumb"><Icon name="files" /></span>
            <span class="line-main"><strong>{r('offer', { name: h.from, n: h.files })}</strong><small>{size(h.bytes)} · {r(h.accepted ? 'offerTaken' : h.refused ? 'offerRefused' : 'offerOpen', { date: date(h.due) })}</small></span>
            <span class="line-acts">
              {!h.accepted && <Button kind="main" busy={act.busy} onClick={() => void answer(h, true)}>{r('take')}</Button>}
              {!h.refused && <Button busy={act.busy} onClick={() => void answer(h, false)}>{r('refuse')}</Button>}
            </span>
          </li>
        ))}
      </ul>
      {act.problem && <ProblemNote problem={act.problem} />}
    </section>
  );
}

const kinds = { question: 'question', access: 'access', correction: 'correction', deletion: 'deletion', complaint: 'complaint', other: 'other' } as const;

function Line({ of, children }: { of: Request; children?: preact.ComponentChildren }) {
  return (
    <li>
      <span class="line-main">
        <strong>{r(kinds[of.kind])}{of.from && ` · ${of.from}`}{!of.verified && ` · ${r('unverified')}`}</strong>
        <span class="pre">{of.text}</span>
        {of.contact && <small>{r('contact', { how: of.contact })}</small>}
        {of.answer && <span class="pre">{r(of.state === 'refused' ? 'refusedWith' : 'answeredWith', { text: of.answer })}</span>}
        <small>{of.state === 'open' ? r(of.overdue ? 'overdue' : 'due', { date: date(of.due) }) : r('closed', { date: date(of.closed ?? of.received) })}</small>
      </span>
      {children && <span class="line-acts">{children}</span>}
    </li>
  );
}

function Requests() {
  const list = useLoad(() => get<{ requests: Request[] }>('/v1/me/requests'), []);
  return (
    <section class="card">
      <h2>{r('askTitle')}</h2>
      <p>{r('askText')}</p>
      <Ask onSent={() => list.reload()} />
      {list.value && list.value.requests.length > 0 && <ul class="lines">{list.value.requests.map((q) => <Line of={q} key={q.id} />)}</ul>}
    </section>
  );
}

/** Everybody's requests, for whoever manages the box. */
function Everybody() {
  const [closed, show] = useState(false);
  const list = useLoad(() => get<{ requests: Request[]; waiting: { open: number; overdue: number } }>('/v1/requests' + (closed ? '?closed=true' : '')), [closed]);
  const [on, answer] = useState<Request | null>(null);
  const [text, setText] = useState('');
  const [refuse, setRefuse] = useState(false);
  const act = useAct();
  const submit = async () => {
    const done = await act.run(() => call('PUT', `/v1/requests/${on!.id}/answer`, { text, refuse }));
    if (!done) return;
    answer(null);
    setText('');
    list.reload();
  };
  return (
    <section class="card">
      <div class="card-head"><h2>{r('allTitle')}</h2><Button onClick={() => show(!closed)}>{r(closed ? 'showOpen' : 'showClosed')}</Button></div>
      <Show of={list}>
        {(l) => (
          <>
            <p>{r('waiting', { n: l.waiting.open, late: l.waiting.overdue })}</p>
            {l.requests.length === 0 ? <Empty icon="check" title={r('noRequests')} /> : (
              <ul class="lines">
                {l.requests.map((q) => <Line of={q} key={q.id}>{q.state === 'open' && <Button onClick={() => answer(q)}>{r('answer')}</Button>}</Line>)}
              </ul>
            )}
          </>
        )}
      </Show>
      {on && (
        <Dialog title={r('answer')} onClose={() => answer(null)}>
          <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
            <p class="pre">{on.text}</p>
            <div class="field"><label for="answer-text">{r('answerText')}</label><textarea id="answer-text" class="input" rows={5} value={text} onInput={(e) => setText(e.currentTarget.value)} required maxLength={8000} /></div>
            <label class="check"><input type="checkbox" checked={refuse} onChange={(e) => setRefuse(e.currentTarget.checked)} /><span>{r('refuseIt')}</span></label>
            {act.problem && <ProblemNote problem={act.problem} />}
            <div class="row-end"><Button onClick={() => answer(null)}>{r('back')}</Button><Button kind="main" type="submit" busy={act.busy}>{r('send')}</Button></div>
          </form>
        </Dialog>
      )}
    </section>
  );
}

/** Having somebody removed, by whoever manages the box. */
function Remove() {
  const people = useLoad(async () => (await get<{ users: (User & { leaving: boolean })[] }>('/v1/users')).users.filter((u) => u.role !== 'owner' && u.id !== session.value.me!.id), []);
  const [who, choose] = useState<User | null>(null);
  const [code, setCode] = useState('');
  const act = useAct();
  const remove = async () => {
    const done = await act.run(async () => setCode((await call<{ code: string }>('POST', `/v1/users/${who!.id}/removal`, { days: 30 })).code));
    if (done) choose(null);
    people.reload();
  };
  const keep = (u: User) =>
    act.run(async () => {
      await call('DELETE', `/v1/users/${u.id}/removal`);
      people.reload();
    });
  return (
    <section class="card">
      <h2>{r('removeTitle')}</h2>
      <p>{r('removeText')}</p>
      <Show of={people}>
        {(list) => (
          <ul class="lines">
            {list.map((u) => (
              <li key={u.id}>
                <span class="line-main"><strong>{u.username}</strong><small>{word('role', u.role)}{u.leaving && ` · ${r('isLeaving')}`}</small></span>
                <span class="line-acts">{u.leaving ? <Button busy={act.busy} onClick={() => void keep(u)}>{r('keepThem')}</Button> : <Button kind="danger" onClick={() => choose(u)}>{r('remove')}</Button>}</span>
              </li>
            ))}
          </ul>
        )}
      </Show>
      {code && <Note icon="receipt"><strong>{r('codeTitle')}</strong><p><code class="wrap">{code}</code></p><p>{r('removeCode')}</p></Note>}
      {act.problem && !who && <ProblemNote problem={act.problem} />}
      {who && (
        <Dialog title={r('removeTitle')} onClose={() => choose(null)}>
          <p>{r('removeSure', { name: who.username })}</p>
          {act.problem && <ProblemNote problem={act.problem} />}
          <div class="row-end"><Button onClick={() => choose(null)}>{r('back')}</Button><Button kind="danger" busy={act.busy} onClick={() => void remove()}>{r('remove')}</Button></div>
        </Dialog>
      )}
    </section>
  );
}

/** For how long records are kept, as the owner of the box chooses. */
function Periods() {
  const data = useLoad(() => get<{ categories: Category[] }>('/v1/me/data'), []);
  return (
    <section class="card">
      <h2>{r('periodsTitle')}</h2>
      <p>{r('periodsText')}</p>
      <Show of={data}>{(d) => <ul class="lines">{d.categories.filter((c) => c.period).map((c) => <PeriodLine of={c} key={c.id} onSet={() => data.reload()} />)}</ul>}</Show>
    </section>
  );
}

function PeriodLine({ of, onSet }: { of: Category; onSet: () => void }) {
  const p = of.period!;
  const [days, set] = useState(String(p.days));
  const act = useAct();
  const submit = () =>
    act.run(async () => {
      await call('PUT', '/v1/retention/' + of.id, { days: Number(days) });
      say(r('periodSet'));
      onSet();
    });
  return (
    <li>
      <form class="period" onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <Field label={said(of.title)} value={days} onInput={set} inputMode="numeric" pattern="[0-9]*" required hint={r(p.never ? 'boundsNever' : 'bounds', { min: p.min, max: p.max })} />
        {act.problem && <ProblemNote problem={act.problem} />}
        <div class="row-end"><Button type="submit" busy={act.busy}>{r('set')}</Button></div>
      </form>
    </li>
  );
}

import { useState } from 'preact/hooks';
import { call, get } from '../api';
import { decide, stateOf, useConsents, type Consents } from '../decide';
import { Icon } from '../icons';
import { dateTime, duration, size, t, word } from '../i18n';
import { href } from '../route';
import { useStore } from '../store';
import { Button, Dialog, Empty, Head, Note, ProblemNote, Said, Show, useAct, useLoad } from '../ui';
import { Bar } from './bar';
import { AlikeList, GroupList, type Choices } from './groups';
import { d } from './texts';
import { carry, found, look, nameOf, outcome, prepare, stop, trouble, work, type Action, type Found, type Plan, type Rule, type Troubles } from './work';

const PURPOSE = 'file_dedup';
interface Folder {
  path: string;
  kind: 'watched' | 'disk';
}

/** Equal files in folders of the box's own computer: what there is, what becomes of them, and the way back. */
export function DuplicatesPage() {
  const consents = useConsents();
  const folders = useLoad(async () => (await get<{ folders: Folder[] }>('/v1/duplicates/folders')).folders, []);
  const [folder, choose] = useState(work.value?.folder ?? found.value?.folder ?? outcome.value?.folder ?? '');
  const now = useStore(work);
  const f = useStore(found);
  const out = useStore(outcome);
  const problem = useStore(trouble);
  return (
    <>
      <Head title={t('dups.title')} text={t('dups.text')}>
        <a class="button plain" href={href('storage')}><Icon name="storage" /><span>{d('dups.back')}</span></a>
      </Head>
      {problem && (problem.kind !== 'consent-required'
        ? <ProblemNote problem={problem} />
        : <Note kind="warn" icon="consents">{d('dups.withdrawn')}</Note>)}
      {now && <Working />}
      {!now && out && <Outcome />}
      <Show of={consents}>
        {(c) => (
          <Show of={folders}>
            {(list) => {
              const allowed = stateOf(c, PURPOSE)?.granted ?? false;
              const at = list.find((x) => x.path === folder)?.path ?? list[0]?.path ?? '';
              return (
                <>
                  {!allowed && <Consent consents={c} changed={() => { trouble.set(null); consents.reload(); }} />}
                  {list.length === 0 ? (
                    <Empty icon="folder" title={d('dups.noFolder')}><p>{d('dups.noFolderText')}</p></Empty>
                  ) : (
                    <>
                      {(allowed || list.length > 1) && <Choose folders={list} at={at} choose={choose} allowed={allowed} />}
                      {allowed && f && f.folder === at && <div hidden={now !== null}><Result key={at} found={f} /></div>}
                      {at && !now && <Earlier key={at + (out?.plan.plan ?? '') + (out?.verb ?? '')} folder={at} allowed={allowed} />}
                    </>
                  )}
                </>
              );
            }}
          </Show>
        )}
      </Show>
    </>
  );
}

/** The purpose in its own words, to be allowed right here. Nothing is looked at before. */
function Consent({ consents: c, changed }: { consents: Consents; changed: () => void }) {
  const act = useAct();
  const p = c.purposes.find((x) => x.id === PURPOSE);
  if (!p) return null;
  return (
    <section class="card" aria-label={p.title}>
      <div class="card-head"><h2>{d('dups.ask')}</h2></div>
      <p>{p.what}</p>
      <dl class="facts">
        <div><dt>{t('consents.data')}</dt><dd>{p.data.join(t('listSeparator'))}</dd></div>
        <div><dt>{t('consents.retention')}</dt><dd>{p.retention}</dd></div>
        <div><dt>{t('consents.processor')}</dt><dd>{p.processor}</dd></div>
      </dl>
      {act.problem && <ProblemNote problem={act.problem} />}
      <div class="row-end">
        <p class="hint">{d('dups.askHint')}</p>
        <Button kind="main" busy={act.busy} onClick={() => void act.run(async () => { await decide(c, PURPOSE, true, null).finally(changed); })}>{d('dups.allow')}</Button>
      </div>
    </section>
  );
}

function Choose({ folders, at, choose, allowed }: { folders: Folder[]; at: string; choose: (path: string) => void; allowed: boolean }) {
  const [similar, setSimilar] = useState(false);
  const busy = useStore(work) !== null;
  return (
    <section class="card" aria-label={d('dups.where')}>
      <fieldset class="choice" disabled={busy}>
        <legend><h2>{d('dups.where')}</h2></legend>
        <div class="options">
          {folders.map((f) => (
            <label class="option" key={f.path}>
              <input type="radio" name="folder" checked={f.path === at} onChange={() => choose(f.path)} />
              <span class="thumb folder"><Icon name={f.kind === 'disk' ? 'storage' : 'folder'} /></span>
              <span class="line-main"><strong>{f.path}</strong><small>{d(f.kind === 'disk' ? 'dups.disk' : 'dups.watched')}</small></span>
            </label>
          ))}
        </div>
      </fieldset>
      {allowed && !busy && (
        <>
          <label class="check">
            <input type="checkbox" checked={similar} onChange={(e) => setSimilar(e.currentTarget.checked)} />
            <span>{d('dups.similar')}<small>{d('dups.similarText')}</small></span>
          </label>
          <div class="row-end">
            <p class="hint">{d('dups.nothing')}</p>
            <Button kind="main" onClick={() => void look(at, similar)}>{d('dups.look')}</Button>
          </div>
        </>
      )}
    </section>
  );
}

/** How far the box is, with a way to stop it. */
function Working() {
  const w = useStore(work);
  if (!w) return null;
  const p = w.progress;
  return (
    <section class="card summary" aria-label={t('dups.working')}>
      <div class="summary-head">
        <h2>{p ? word('stage', p.stage) : t('dups.starting')}</h2>
        <Button icon="close" onClick={stop}>{t('dups.stop')}</Button>
      </div>
      <Bar />
      <p class="hint">{p ? farText() : w.folder}</p>
      <p class="hint">{d(w.verb === 'apply' || w.verb === 'undo' ? 'dups.stayFold' : 'dups.stay')}</p>
    </section>
  );
}

function farText(): string {
  const p = work.value!.progress!;
  const list = [p.of_files > 0 ? d('dups.filesOf', { n: p.files, of: p.of_files }) : d('dups.files', { n: p.files })];
  if (p.bytes > 0) list.push(p.of_bytes > 0 ? d('dups.bytesOf', { n: size(p.bytes), of: size(p.of_bytes) }) : size(p.bytes));
  if (p.seconds_left > 0) list.push(d('dups.left', { time: duration(p.seconds_left) }));
  return list.join(' · ');
}

function Result({ found: f }: { found: Found }) {
  const { report: r, plan } = f;
  const [action, setAction] = useState<Action>(plan.action);
  const [rule, setRule] = useState<Rule>('oldest');
  const [choices, setChoices] = useState<Choices>({});
  const [sure, ask] = useState(false);
  const named = f.groups.reduce((n, g) => n + g.fold.length, 0);
  const go = async () => {
    const list = Object.values(choices);
    const ready = await prepare({
      path: f.folder, action, rule,
      prefer: list.flatMap((c) => (c.stays === null ? [] : [c.stays])),
      stay: list.flatMap((c) => (c.stays === null ? c.all : [])),
    });
    ask(ready);
  };
  return (
    <>
      <section class="card" aria-label={d('dups.found')}>
        {r.same === 0 ? <h2>{d('dups.none', { n: r.files })}</h2> : (
          <>
            <div class="card-head">
              <h2>{d('dups.same', { n: r.same })}</h2>
              <span class="big">{d('dups.free', { size: size(r.free) })}</span>
            </div>
            <p>{d('dups.of', { n: r.files, size: size(r.bytes) })}{r.in_box > 0 && ' ' + d('dups.inBox', { n: r.in_box })}</p>
          </>
        )}
        <Left of={r.unreadable} text={d('dups.unreadable', { n: r.unreadable.n })} />
        <Left of={r.changed} text={d('dups.changed', { n: r.changed.n })} />
        {r.other_mounts > 0 && <p class="hint">{d('dups.mounts', { n: r.other_mounts })}</p>}
      </section>
      {f.groups.length > 0 && (
        <>
          <GroupList groups={f.groups} total={plan.groups} choices={choices} choose={setChoices} />
          <section class="card" aria-label={d('dups.what')}>
            <fieldset class="choice">
              <legend><h2>{d('dups.what')}</h2></legend>
              <div class="options">
                <How action="trash" now={action} set={setAction} title={d('dups.trash')} text={d('dups.trashText')} />
                {r.reflinks && <How action="reflink" now={action} set={setAction} title={d('dups.reflink')} text={d('dups.reflinkText')} />}
                <How action="hardlink" now={action} set={setAction} title={d('dups.hardlink')} text={d('dups.hardlinkText')} />
              </div>
            </fieldset>
            <div class="field">
              <label for="dups-rule">{d('dups.rule')}</label>
              <select id="dups-rule" class="input" value={rule} onChange={(e) => setRule(e.currentTarget.value as Rule)}>
                <option value="oldest">{d('dups.oldest')}</option>
                <option value="newest">{d('dups.newest')}</option>
                <option value="shortest">{d('dups.shortest')}</option>
              </select>
              <p class="hint">{d('dups.ruleText')}</p>
            </div>
            <div class="row-end">
              <p class="hint">{d('dups.notYet')}</p>
              <Button kind="main" onClick={() => void go()}>{d('dups.go')}</Button>
            </div>
          </section>
        </>
      )}
      {plan.files > 0 && named < plan.files && <p class="hint foot-note">{d('dups.more', { n: plan.files - named })}</p>}
      {f.alike && <AlikeList of={f} />}
      {sure && (
        <Dialog title={d('dups.sure')} onClose={() => ask(false)}>
          <p><strong>{asked(plan)}</strong></p>
          <p>{d('dups.sureText')}</p>
          {plan.left > 0 && <p class="hint">{d('dups.sureLeft', { n: plan.left })}</p>}
          <p class="hint">{f.folder}</p>
          <div class="row-end">
            <Button onClick={() => ask(false)}>{t('cancel')}</Button>
            {plan.files > 0 && <Button kind="main" onClick={() => { ask(false); void carry('apply', f.folder, plan); }}>{doIt(plan)}</Button>}
          </div>
        </Dialog>
      )}
    </>
  );
}

const asked = (p: Plan) => {
  const what = { n: p.files, size: size(p.free) };
  return p.action === 'trash' ? d('dups.sureTrash', what) : p.action === 'hardlink' ? d('dups.sureHardlink', what) : d('dups.sureReflink', what);
};
const doIt = (p: Plan) => (p.action === 'trash' ? d('dups.doTrash', { n: p.files }) : d('dups.doFold', { n: p.files }));

function How({ action, now, set, title, text }: { action: Action; now: Action; set: (a: Action) => void; title: string; text: string }) {
  return (
    <label class="option">
      <input type="radio" name="action" checked={action === now} onChange={() => set(action)} />
      <span class="line-main"><strong>{title}</strong><small>{text}</small></span>
    </label>
  );
}

/** Files that were left out, some by name. */
function Left({ of, text }: { of: Troubles; text: string }) {
  if (of.n === 0) return null;
  return (
    <details class="more">
      <summary>{text}</summary>
      <ul class="lines">
        {(of.list ?? []).slice(0, 20).map((x) => <li><span class="line-main"><strong>{nameOf(x.path)}</strong><small><Said of={x.reason} /></small></span></li>)}
      </ul>
    </details>
  );
}

/** What was done, or taken back. */
function Outcome() {
  const { folded: r, plan, verb, folder } = outcome.value!;
  const undone = verb === 'undo';
  return (
    <section class="card" aria-label={d('dups.done')}>
      <div class="card-head">
        <h2>{undone
          ? d(r.nothing ? 'dups.undoneNothing' : 'dups.undone', { n: r.done })
          : plan.action === 'trash' ? d('dups.doneTrash', { n: r.done }) : plan.action === 'hardlink' ? d('dups.doneHardlink', { n: r.done }) : d('dups.doneReflink', { n: r.done })}</h2>
        <span class="tag good">{d('dups.done')}</span>
      </div>
      {!undone && plan.action === 'trash' && r.done > 0 && <p>{d('dups.emptyIt', { size: size(r.bytes) })}</p>}
      <Left of={r.left} text={d('dups.leftAlone', { n: r.left.n })} />
      <div class="row-end">
        <p class="hint">{folder}</p>
        {!undone && r.done > 0 && plan.action !== 'reflink' && <Button icon="restore" onClick={() => void carry('undo', folder, plan)}>{d('dups.undo')}</Button>}
      </div>
    </section>
  );
}

/** What was done in the folder before: to go on with, or to take back, which needs no consent. */
function Earlier({ folder, allowed }: { folder: string; allowed: boolean }) {
  const plans = useLoad(async () => (await call<{ plans: Plan[] }>('POST', '/v1/duplicates/plans', { path: folder })).plans.filter((p) => p.state !== 'planned').reverse(), [folder]);
  if (!plans.value?.length) return plans.problem && plans.problem.kind !== 'not-found' ? <ProblemNote problem={plans.problem} /> : null;
  return (
    <section class="card" aria-label={d('dups.earlier')}>
      <h2>{d('dups.earlier')}</h2>
      <ul class="lines">
        {plans.value.slice(0, 10).map((p) => (
          <li key={p.plan}>
            <span class="line-main">
              <strong>{p.action === 'trash' ? d('dups.wasTrash') : p.action === 'hardlink' ? d('dups.wasHardlink') : d('dups.wasReflink')}</strong>
              <small>{dateTime(p.created)} · {d('dups.files', { n: p.files })} · {p.state === 'begun' ? d('dups.stateBegun') : p.state === 'undone' ? d('dups.stateUndone') : d('dups.done')}</small>
            </span>
            <span class="line-acts">
              {p.state === 'begun' && allowed && <Button kind="quiet" onClick={() => void carry('apply', folder, p)}>{d('dups.goOn')}</Button>}
              {p.state !== 'undone' && p.action !== 'reflink' && (
                <Button kind="quiet" icon="restore" aria-label={d('dups.undoOne', { time: dateTime(p.created) })} onClick={() => void carry('undo', folder, p)}>{t('undo')}</Button>
              )}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

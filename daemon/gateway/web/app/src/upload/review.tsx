import { useEffect, useState } from 'preact/hooks';
import { call, Problem, type Purpose } from '../api';
import { decide, onDevice, stateOf, useConsents, type Consents } from '../decide';
import { Icon, iconOf } from '../icons';
import { size, t, word, type Key } from '../i18n';
import { machine } from '../platform';
import { href } from '../route';
import { memory } from '../store';
import { Button, Field, Loading, ProblemNote, say, Show, Switch, useAct } from '../ui';
import type { Picked } from './pick';
import { queue } from './queue';

const sources = ['album', 'screenshot', 'camera', 'wechat', 'qq', 'tim', 'download', 'other'] as const;
const QUESTION = 1000; // names
const known: Record<string, Key> = { guess: 'review.guess', none: 'review.none' };

interface Group {
  key: string;
  source: string; // as the box takes it, or as we propose it
  by: string;
  files: Picked[];
  bytes: number;
}

/** Pictures and films whose names say nothing are a group of their own: on a phone most likely the album's. */
const NAMELESS = 'nameless';

/** Asks the box where files of these names come from. */
async function grouped(files: Picked[]): Promise<Group[]> {
  const groups = new Map<string, Group>();
  for (let at = 0; at < files.length; at += QUESTION) {
    const some = files.slice(at, at + QUESTION);
    const answer = await call<{ sources: { source: string; by: string }[] }>('POST', '/v1/sources', { paths: some.map((p) => p.path) });
    some.forEach((p, n) => {
      const { source, by } = answer.sources[n]!;
      const media = by === 'none' && ['image', 'video'].includes(iconOf(p.path));
      const key = media ? NAMELESS : source;
      let g = groups.get(key);
      if (!g) groups.set(key, (g = { key, source: media && machine !== 'computer' ? 'album' : source, by, files: [], bytes: 0 }));
      if (by === 'guess') g.by = by;
      g.files.push(p);
      g.bytes += p.file.size;
    });
  }
  return [...groups.values()].sort((a, b) => b.files.length - a.files.length);
}

/** What was chosen, by where it comes from, before anything of it is sent. */
export function Review({ files, into, more, onChange }: { files: Picked[]; into: string; more: () => void; onChange: (left: Picked[]) => void }) {
  const [groups, set] = useState<Group[] | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [turn, again] = useState(0);
  const [folder, setFolder] = useState(into || (machine === 'computer' ? '' : memory.get('yunbox.folder') ?? t('review.phoneFolder')));
  const consents = useConsents();
  useEffect(() => {
    let current = true;
    setProblem(null);
    grouped(files).then(
      (g) => current && set((had) => g.map((x) => ({ ...x, source: had?.find((y) => y.key === x.key)?.source ?? x.source }))),
      (e: unknown) => current && setProblem(Problem.of(e)),
    );
    return () => {
      current = false;
    };
  }, [files, turn]);

  const sum = (list: Group[]) => ({ n: list.reduce((n, g) => n + g.files.length, 0), size: size(list.reduce((n, g) => n + g.bytes, 0)) });
  const start = (list: Group[], rest: Group[]) => {
    const where = folder.trim().replace(/^\/+|\/+$/g, '');
    if (!into && machine !== 'computer') memory.set('yunbox.folder', where);
    for (const g of list) void queue.add(g.files, g.source, where);
    onChange(rest.flatMap((g) => g.files));
    document.querySelector<HTMLElement>('h1')?.focus({ preventScroll: true }); // the button that had the focus goes
  };
  return (
    <section class="card review" aria-label={t('review.title')}>
      <div class="card-head">
        <h2>{t('review.title')}</h2>
        {groups && <span class="big">{t('review.sum', sum(groups))}</span>}
      </div>
      {problem && <ProblemNote problem={problem}><p><Button icon="again" onClick={() => again(turn + 1)}>{t('again')}</Button></p></ProblemNote>}
      {!groups && !problem && <Loading />}
      {groups && (
        <Show of={consents}>
          {(c) => {
            const ready = groups.filter((g) => allowed(c, purposeOf(c, g.source)));
            const missing = groups.filter((g) => !ready.includes(g));
            return (
              <>
                <ul class="lines">
                  {groups.map((g) => (
                    <li key={g.key}>
                      <span class="thumb"><Icon name={iconOf(g.files[0]!.path)} /></span>
                      <span class="line-main">
                        <strong>{g.key === NAMELESS ? t('review.nameless') : g.source === 'other' ? t('upload.manual') : word('source', g.source)}</strong>
                        <small>{t('review.sum', { n: g.files.length, size: size(g.bytes) })} · {t(known[g.by] ?? 'review.found')}</small>
                      </span>
                      <span class="line-acts">
                        <select class="input source-select" value={g.source} aria-label={t('review.sourceOf', { n: g.files.length, source: word('source', g.source) })}
                          onChange={(e) => { const source = e.currentTarget.value; set(groups.map((x) => (x === g ? { ...x, source } : x))); }}>
                          {sources.map((s) => <option value={s}>{s === 'other' ? t('upload.manual') : word('source', s)}</option>)}
                        </select>
                      </span>
                      {missing.includes(g) && <Ask consents={c} purpose={purposeOf(c, g.source)} changed={consents.reload} />}
                    </li>
                  ))}
                </ul>
                {machine !== 'computer' || into
                  ? <Field label={t('review.folder')} value={folder} onInput={setFolder} autocomplete="off" maxLength={200} />
                  : null}
                {missing.length > 0 && <p class="hint">{t('review.waits', { n: sum(missing).n })}</p>}
                <div class="row-end">
                  <Button kind="quiet" icon="plus" class="more-files" onClick={more}>{t('review.more')}</Button>
                  <Button onClick={() => onChange([])}>{t('cancel')}</Button>
                  {ready.length > 0 && <Button kind="main" icon="upload" onClick={() => start(ready, missing)}>{t('review.start', { n: sum(ready).n })}</Button>}
                </div>
              </>
            );
          }}
        </Show>
      )}
    </section>
  );
}

/** The purpose that covers a source; the core one takes what no other names. */
const purposeOf = (c: Consents, source: string): Purpose | undefined => c.purposes.find((p) => p.sources?.includes(source)) ?? c.purposes.find((p) => p.core);

function allowed(c: Consents, p: Purpose | undefined): boolean {
  const device = memory.get('yunbox.device');
  if (!p) return true; // the box itself will say what it needs
  return p.per_device && device ? onDevice(c, p.id, device) : stateOf(c, p.id)?.granted ?? false;
}

/** Asks for the consent that a group of files needs. */
function Ask({ consents: c, purpose: p, changed }: { consents: Consents; purpose: Purpose | undefined; changed: () => void }) {
  const act = useAct();
  if (!p) return null;
  const device = p.per_device ? memory.get('yunbox.device') : null;
  const allow = () =>
    void act.run(async () => {
      await decide(c, p.id, true, device).finally(changed);
      say(t('consents.saidYes', { purpose: p.title }));
    });
  return (
    <div class="ask note warn">
      <Icon name="consents" />
      <div>
        <strong>{t('review.consent', { purpose: p.title })}</strong>
        <p>{p.what}</p>
        {p.core || !p.available
          ? <p><a href={href('consents', p.id)}>{t('upload.toConsents')}</a></p>
          : (
            <>
              <p class="hint">{t('consents.data')}: {p.data.join(t('listSeparator'))} · {t('consents.retention')}: {p.retention} · <a href={href('consents', p.id)}>{t('review.about')}</a></p>
              <div class="device-row">
                <strong>{t(device ? 'review.allowHere' : 'review.allow')}</strong>
                <Switch label={p.title} checked={false} busy={act.busy} onChange={(on) => on && allow()} />
              </div>
            </>
          )}
        {act.problem && <ProblemNote problem={act.problem} />}
      </div>
    </div>
  );
}

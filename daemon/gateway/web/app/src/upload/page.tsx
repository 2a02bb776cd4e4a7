import { useRef, useState } from 'preact/hooks';
import { Icon, iconOf } from '../icons';
import { duration, number, percent, size, t, word } from '../i18n';
import { href, route } from '../route';
import { useStore } from '../store';
import { Button, Empty, Head, IconButton, Note, ProblemNote, Said } from '../ui';
import { dropped, picked } from './pick';
import { isOver, queue, unfinished, type Totals, type Transfer } from './queue';

const sources = ['other', 'album', 'screenshot', 'camera', 'wechat', 'qq', 'download'] as const;
const ROWS = 100; // drawn at a time; a queue may hold many thousands

export function UploadPage() {
  const folder = useStore(route).rest;
  useStore(queue.changed);
  const [source, setSource] = useState<string>('other');
  const [over, setOver] = useState(false);
  const [rows, setRows] = useState(ROWS);
  const files = useRef<HTMLInputElement>(null);
  const dir = useRef<HTMLInputElement>(null);
  const [interrupted] = useState(() => unfinished.count());
  const totals = queue.totals();

  const add = (found: { file: File; path: string }[]) =>
    queue.add(found.map((f) => ({ file: f.file, path: folder ? `${folder}/${f.path}` : f.path })), source);
  const onPick = (e: Event) => add(picked(e.currentTarget as HTMLInputElement));
  const refused = queue.all.find((x) => x.state === 'refused');

  return (
    <>
      <Head title={t('upload.title')} text={folder ? t('upload.into', { folder }) : t('upload.text')} />
      {interrupted > 0 && queue.all.length === 0 && <Note icon="again">{t('upload.interrupted', { n: interrupted })}</Note>}
      <section
        class={over ? 'card drop over' : 'card drop'} aria-label={t('upload.choose')}
        onDragOver={(e) => { e.preventDefault(); setOver(true); }}
        onDragLeave={(e) => !e.currentTarget.contains(e.relatedTarget as Node | null) && setOver(false)}
        onDrop={(e) => {
          e.preventDefault();
          setOver(false);
          if (e.dataTransfer) void dropped(e.dataTransfer).then(add);
        }}
      >
        <Icon name="upload" class="drop-icon" />
        <p class="drop-title">{t('upload.drop')}</p>
        <div class="drop-acts">
          <Button kind="main" onClick={() => files.current?.click()}>{t('upload.pickFiles')}</Button>
          {'webkitdirectory' in HTMLInputElement.prototype && <Button onClick={() => dir.current?.click()}>{t('upload.pickFolder')}</Button>}
        </div>
        <input ref={files} type="file" multiple hidden aria-label={t('upload.pickFiles')} onChange={onPick} />
        <input ref={dir} type="file" multiple hidden aria-label={t('upload.pickFolder')} onChange={onPick} {...{ webkitdirectory: true }} />
        <label class="source-choice">
          <span>{t('upload.source')}</span>
          <select class="input" value={source} onChange={(e) => setSource(e.currentTarget.value)}>
            {sources.map((s) => <option value={s}>{s === 'other' ? t('upload.manual') : word('source', s)}</option>)}
          </select>
        </label>
      </section>
      {totals.refused > 0 && refused?.problem && (
        <ProblemNote problem={refused.problem}>
          <p>{t('upload.refusedText', { n: totals.refused })}</p>
          <p><Button icon="again" onClick={() => queue.againAll()}>{t('upload.againAll')}</Button></p>
        </ProblemNote>
      )}
      {totals.files === 0
        ? <Empty icon="upload" title={t('upload.none')}><p>{t('upload.noneText')}</p></Empty>
        : (
          <section class="card transfers" aria-label={t('upload.list')}>
            <Summary totals={totals} />
            <ul class="lines">{order(rows).map((x) => <Row key={x.id} x={x} />)}</ul>
            {rows < totals.files && <div class="load-more"><Button onClick={() => setRows(rows + ROWS)}>{t('files.more')}</Button></div>}
          </section>
        )}
      <p class="hint foot-note">{t('upload.limits')}</p>
    </>
  );
}

/** What moves and what needs somebody first, then what waits, then what is done (latest first). */
function order(rows: number): Transfer[] {
  const rank = (x: Transfer) =>
    x.state === 'sending' || x.state === 'retrying' ? 0
      : x.state === 'failed' || x.state === 'refused' ? 1
      : x.state === 'stored' || x.state === 'known' ? 3 : 2;
  return queue.all
    .map((x, n) => ({ x, r: rank(x), n: rank(x) === 3 ? -n : n }))
    .sort((a, b) => a.r - b.r || a.n - b.n)
    .slice(0, rows)
    .map((o) => o.x);
}

function Summary({ totals: n }: { totals: Totals }) {
  const done = n.busy === 0 && n.paused === 0;
  const left = n.rate > 0 ? (n.bytes - n.done) / n.rate : 0;
  const facts = [
    t('upload.progress', { done: size(n.done), bytes: size(n.bytes) }),
    n.rate > 0 && t('upload.rate', { rate: size(n.rate) }),
    left > 0 && n.busy > 0 && t('upload.left', { time: duration(left) }),
  ].filter(Boolean);
  return (
    <div class="summary">
      <div class="summary-head">
        <h2>{!done ? t('upload.busy', { n: n.busy + n.paused }) : n.refused + n.failed > 0 ? t('upload.needYou', { n: n.refused + n.failed }) : t('upload.done')}</h2>
        <div class="drop-acts">
          {n.busy > 0 && <Button kind="quiet" icon="pause" onClick={() => queue.pauseAll()}>{t('upload.pauseAll')}</Button>}
          {n.paused > 0 && <Button kind="quiet" icon="play" onClick={() => queue.resumeAll()}>{t('upload.resumeAll')}</Button>}
          {n.failed > 0 && <Button kind="quiet" icon="again" onClick={() => queue.againAll()}>{t('upload.againAll')}</Button>}
          {n.stored + n.known + n.failed + n.refused > 0 && <Button kind="quiet" onClick={() => queue.clearDone()}>{t('upload.clear')}</Button>}
        </div>
      </div>
      <progress class="progress" max={n.bytes || 1} value={n.bytes ? n.done : done ? 1 : 0} aria-label={t('upload.total')} />
      <p class="hint">{facts.join(' · ')}</p>
      <p class="counts" role="status">
        {n.stored > 0 && <span class="tag good">{t('upload.nStored', { n: n.stored })}</span>}
        {n.known > 0 && <span class="tag good">{t('upload.nKnown', { n: n.known })}</span>}
        {n.refused > 0 && <span class="tag warn">{t('upload.nRefused', { n: n.refused })}</span>}
        {n.failed > 0 && <span class="tag bad">{t('upload.nFailed', { n: n.failed })}</span>}
      </p>
    </div>
  );
}

function Row({ x }: { x: Transfer }) {
  const moving = x.state === 'sending' || x.state === 'hashing';
  const at = x.state === 'hashing' ? x.hashed : x.sent;
  return (
    <li class={'transfer ' + x.state}>
      <span class="thumb"><Icon name={x.state === 'stored' || x.state === 'known' ? 'check' : x.state === 'failed' || x.state === 'refused' ? 'warn' : iconOf(x.path)} /></span>
      <span class="line-main">
        <strong class="file-name">{x.path}</strong>
        <small>
          {stateText(x)} · {size(x.file.size)}
          {x.state === 'sending' && x.file.size > 0 && ` · ${percent(x.sent, x.file.size)}`}
        </small>
        {moving && x.file.size > 0 && <progress class="progress thin" max={x.file.size} value={at} aria-label={x.path} />}
        {x.problem && x.state !== 'refused' && (
          <small class="error">
            {word('problem', x.problem.kind)} <Said of={x.problem.detail} /> <Said of={x.problem.hint} />
          </small>
        )}
        {x.state === 'refused' && <small><a href={href('consents', String(x.problem?.members['purpose'] ?? ''))}>{t('upload.toConsents')}</a></small>}
      </span>
      <span class="line-acts">
        {x.state === 'paused' ? <IconButton icon="play" label={t('upload.resume', { name: x.path })} onClick={() => queue.resume(x)} />
          : x.state === 'failed' || x.state === 'refused' ? <IconButton icon="again" label={t(x.problem && x.problem.kind === 'deleted' ? 'upload.wanted' : 'upload.again', { name: x.path })} onClick={() => queue.again(x)} />
          : !isOver(x) && <IconButton icon="pause" label={t('upload.pause', { name: x.path })} onClick={() => queue.pause(x)} />}
        <IconButton icon="close" label={t(isOver(x) ? 'upload.remove' : 'upload.cancel', { name: x.path })} onClick={() => queue.remove(x)} />
      </span>
    </li>
  );
}

function stateText(x: Transfer): string {
  switch (x.state) {
    case 'waiting': return t('transfer.waiting');
    case 'hashing': return t('transfer.hashing');
    case 'checking': case 'ready': return t('transfer.checking');
    case 'sending': return t('transfer.sending');
    case 'retrying': return t('transfer.retrying', { n: number(x.tries) });
    case 'paused': return t('transfer.paused');
    case 'stored': return t('transfer.stored');
    case 'known': return t('transfer.known');
    case 'refused': return t('transfer.refused');
    case 'failed': return t('transfer.failed');
  }
}

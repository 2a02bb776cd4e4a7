import { useEffect, useRef, useState } from 'preact/hooks';
import { History } from '../history';
import { Icon, iconOf } from '../icons';
import { date, duration, number, percent, size, t, word } from '../i18n';
import { machine, ios } from '../platform';
import { href, route } from '../route';
import { memory, useStore } from '../store';
import { Button, Head, IconButton, Note, ProblemNote, Said } from '../ui';
import { Limits } from './limits';
import { choose, dropped, hasFolders, hasHandles, picked, type Picked } from './pick';
import { Proof } from './proof';
import { isOver, queue, type Totals, type Transfer } from './queue';
import { Review } from './review';

const ROWS = 100; // drawn at a time; a queue may hold many thousands
const titles = { phone: 'upload.phone', tablet: 'upload.tablet', computer: 'upload.computer' } as const;

export function UploadPage() {
  const folder = useStore(route).rest;
  useStore(queue.changed);
  const chosen = useStore(queue.chosen);
  const [rows, setRows] = useState(ROWS);
  const totals = queue.totals();
  const take = (files: Picked[]) => {
    // What was chosen before goes on; only the rest is new.
    const rest = queue.adopt(files);
    if (rest.length > 0) queue.chosen.set([...queue.chosen.value, ...rest]);
  };
  const { open, looking, hidden } = usePickers(take);
  const refused = queue.all.find((x) => x.state === 'refused');
  return (
    <>
      <Head title={folder ? t('upload.title') : t(titles[machine])} text={folder ? t('upload.into', { folder }) : t('upload.text')} />
      {queue.elsewhere && <Note icon="again">{t('upload.elsewhere')}</Note>}
      {hidden}
      {totals.absent > 0 && <Absent n={totals.absent} open={open} looking={looking} />}
      {chosen.length > 0
        ? <Review files={chosen} into={folder} more={() => open('media')} onChange={(left) => queue.chosen.set(left)} />
        : <Choose take={take} open={open} looking={looking} first={totals.absent === 0} />}
      {totals.refused > 0 && refused?.problem && (
        <ProblemNote problem={refused.problem}>
          <p>{t('upload.refusedText', { n: totals.refused })}</p>
          <p><Button icon="again" onClick={() => queue.againAll()}>{t('upload.againAll')}</Button></p>
        </ProblemNote>
      )}
      {totals.files > 0 && (
        <section class="card transfers" aria-label={t('upload.list')}>
          <Summary totals={totals} />
          <ul class="lines">{order(rows).map((x) => <Row key={x.id} x={x} />)}</ul>
          {rows < totals.files && <div class="load-more"><Button onClick={() => setRows(rows + ROWS)}>{t('files.more')}</Button></div>}
        </section>
      )}
      {totals.busy === 0 && totals.stored + totals.known > 0 && <Proof />}
      <Limits open={totals.files === 0} />
      <Ledger done={totals.busy === 0 ? totals.stored + totals.known + totals.declined + totals.failed : 0} />
    </>
  );
}

const pickers = ['media', 'files', 'folder'] as const;
type Open = (what: (typeof pickers)[number]) => void;
const labels = { media: 'upload.pickMedia', files: 'upload.pickFiles', folder: 'upload.pickFolder' } as const;

/** Hidden inputs of the browser's pickers, and what opens them. */
function usePickers(take: (files: Picked[]) => void) {
  const inputs = { media: useRef<HTMLInputElement>(null), files: useRef<HTMLInputElement>(null), folder: useRef<HTMLInputElement>(null) };
  const [looking, setLooking] = useState(false);
  const open = async (what: (typeof pickers)[number]) => {
    // At once, not after an await: a browser opens a picker only in answer to a tap.
    if (!hasHandles() && !(what === 'folder' && 'showDirectoryPicker' in window)) return inputs[what].current?.click();
    setLooking(true);
    const found = await choose(what);
    setLooking(false);
    if (found) take(found);
    else inputs[what].current?.click();
  };
  const hidden = pickers.map((what) => (
    <input
      key={what} ref={inputs[what]} type="file" multiple hidden aria-label={t(labels[what])}
      {...(what === 'media' ? { accept: 'image/*,video/*' } : what === 'folder' ? { webkitdirectory: true } : {})}
      onChange={(e) => take(picked(e.currentTarget))}
    />
  ));
  return { open: ((what) => void open(what)) as Open, looking, hidden };
}

function Choose({ take, open, looking, first }: { take: (files: Picked[]) => void; open: Open; looking: boolean; first: boolean }) {
  const [over, setOver] = useState(false);
  const hand = machine !== 'computer';
  return (
    <section
      class={over ? 'card drop over' : 'card drop'} aria-label={t('upload.choose')}
      onDragOver={(e) => { e.preventDefault(); setOver(true); }}
      onDragLeave={(e) => !e.currentTarget.contains(e.relatedTarget as Node | null) && setOver(false)}
      onDrop={(e) => {
        e.preventDefault();
        setOver(false);
        if (e.dataTransfer) void dropped(e.dataTransfer).then(take);
      }}
    >
      <Icon name={hand ? 'device' : 'upload'} class="drop-icon" />
      <p class="drop-title">{t(hand ? 'upload.tap' : 'upload.drop')}</p>
      <div class="drop-acts">
        <Button kind={first ? 'main' : 'plain'} icon="image" busy={looking} onClick={() => open('media')}>{t('upload.pickMedia')}</Button>
        <Button onClick={() => open('files')}>{t('upload.pickFiles')}</Button>
        {hasFolders() && !ios && <Button onClick={() => open('folder')}>{t('upload.pickFolder')}</Button>}
      </div>
      <p class="hint">{t('upload.before')}</p>
    </section>
  );
}

/** What was begun before the page was closed, and what the person must do for it. */
function Absent({ n, open, looking }: { n: number; open: Open; looking: boolean }) {
  const absent = queue.all.filter((x) => x.state === 'absent');
  const kept = absent.filter((x) => x.handle).length;
  const media = absent.every((x) => ['image', 'video'].includes(iconOf(x.path)));
  return (
    <div class="note info">
      <Icon name="again" />
      <div>
        <strong>{t('absent.title', { n })}</strong>
        <p>{t(kept === n ? 'absent.permit' : 'absent.choose')}</p>
        <div class="note-acts">
          {kept > 0 && <Button kind="main" icon="play" onClick={() => void queue.permit(true)}>{t('absent.go')}</Button>}
          {kept < n && <Button kind={kept ? 'plain' : 'main'} icon={media ? 'image' : 'file'} busy={looking} onClick={() => open(media ? 'media' : 'files')}>{t(media ? 'absent.again' : 'absent.files')}</Button>}
          <Button kind="quiet" onClick={() => queue.dropAbsent()}>{t('absent.drop')}</Button>
        </div>
      </div>
    </div>
  );
}

/** What moves and what needs somebody first, then what waits, then what is done (latest first). */
function order(rows: number): Transfer[] {
  const piles: Transfer[][] = [[], [], [], []];
  for (const x of queue.all) {
    const s = x.state;
    piles[s === 'sending' || s === 'retrying' || s === 'hashing' ? 0 : s === 'failed' || s === 'refused' || s === 'declined' || s === 'absent' ? 1 : isOver(x) ? 3 : 2]!.push(x);
  }
  const [moving, needing, waiting, done] = piles as [Transfer[], Transfer[], Transfer[], Transfer[]];
  const first = [...moving, ...needing, ...waiting].slice(0, rows);
  return first.length < rows ? [...first, ...done.slice(first.length - rows).reverse()] : first;
}

function Summary({ totals: n }: { totals: Totals }) {
  const done = n.busy === 0 && n.paused === 0 && n.absent === 0;
  const left = n.rate > 0 ? (n.bytes - n.done) / n.rate : 0;
  const facts = [
    t('upload.progress', { done: size(n.done), bytes: size(n.bytes) }),
    n.rate > 0 && t('upload.rate', { rate: size(n.rate) }),
    left > 0 && n.busy > 0 && t('upload.left', { time: duration(left) }),
    n.busy > 0 && queue.awake && t('upload.awake'),
  ].filter(Boolean);
  const needy = n.refused + n.failed + n.declined;
  return (
    <div class="summary">
      <div class="summary-head">
        <h2>{!done ? t('upload.busy', { n: n.busy + n.paused + n.absent, of: n.files }) : needy > 0 ? t('upload.needYou', { n: needy }) : t('upload.done')}</h2>
        <div class="drop-acts">
          {n.busy > 0 && <Button kind="quiet" icon="pause" onClick={() => queue.pauseAll()}>{t('upload.pauseAll')}</Button>}
          {n.paused > 0 && <Button kind="quiet" icon="play" onClick={() => queue.resumeAll()}>{t('upload.resumeAll')}</Button>}
          {n.failed > 0 && <Button kind="quiet" icon="again" onClick={() => queue.againAll()}>{t('upload.againAll')}</Button>}
          {n.stored + n.known + needy > 0 && <Button kind="quiet" onClick={() => queue.clearDone()}>{t('upload.clear')}</Button>}
        </div>
      </div>
      <progress class="progress" max={n.bytes || 1} value={n.bytes ? n.done : done ? 1 : 0} aria-label={t('upload.total')} />
      <p class="hint">{facts.join(' · ')}</p>
      <p class="counts" role="status">
        {n.stored > 0 && <span class="tag good">{t('upload.nStored', { n: n.stored })}</span>}
        {n.known > 0 && <span class="tag good">{t('upload.nKnown', { n: n.known })}</span>}
        {n.declined > 0 && <span class="tag warn">{t('upload.nDeclined', { n: n.declined })}</span>}
        {n.refused > 0 && <span class="tag warn">{t('upload.nRefused', { n: n.refused })}</span>}
        {n.failed > 0 && <span class="tag bad">{t('upload.nFailed', { n: n.failed })}</span>}
        {n.absent > 0 && <span class="tag">{t('upload.nAbsent', { n: n.absent })}</span>}
      </p>
      {n.declined > 1 && (
        <p class="declined-all"><span>{t('upload.declinedText', { n: n.declined })}</span> <Button kind="quiet" icon="restore" onClick={() => queue.wantAll()}>{t('upload.wantAll', { n: n.declined })}</Button></p>
      )}
    </div>
  );
}

function Row({ x }: { x: Transfer }) {
  const moving = x.state === 'sending' || x.state === 'hashing' || (x.state === 'absent' && x.sent > 0);
  const at = x.state === 'hashing' ? x.hashed : x.sent;
  const deleted = x.state === 'declined' && x.problem?.members['deleted'];
  return (
    <li class={'transfer ' + x.state}>
      <span class="thumb"><Icon name={x.state === 'stored' || x.state === 'known' ? 'check' : x.state === 'declined' ? 'trash' : x.state === 'failed' || x.state === 'refused' ? 'warn' : iconOf(x.path)} /></span>
      <span class="line-main">
        <strong class="file-name">{x.path}</strong>
        <small>
          {typeof deleted === 'string' ? t('transfer.declinedOn', { date: date(deleted) }) : stateText(x)} · {size(x.size)}
          {(x.state === 'sending' || (x.state === 'absent' && x.sent > 0)) && x.size > 0 && ` · ${percent(x.sent, x.size)}`}
          {x.source !== 'other' && ` · ${word('source', x.source)}`}
        </small>
        {moving && x.size > 0 && <progress class="progress thin" max={x.size} value={at} aria-label={x.path} />}
        {x.problem && x.state !== 'refused' && x.state !== 'declined' && (
          <small class="error">
            {word('problem', x.problem.kind)} {x.problem.kind !== 'unreadable' && <><Said of={x.problem.detail} /> <Said of={x.problem.hint} /></>}
          </small>
        )}
        {x.state === 'refused' && <small><a href={href('consents', String(x.problem?.members['purpose'] ?? ''))}>{t('upload.toConsents')}</a></small>}
      </span>
      <span class="line-acts">
        {x.state === 'paused' ? <IconButton icon="play" label={t('upload.resume', { name: x.path })} onClick={() => queue.resume(x)} />
          : x.state === 'declined' ? <Button kind="quiet" aria-label={t('upload.wanted', { name: x.path })} onClick={() => queue.again(x)}>{t('upload.wantedShort')}</Button>
          : x.state === 'failed' || x.state === 'refused' ? <IconButton icon="again" label={t('upload.again', { name: x.path })} onClick={() => queue.again(x)} />
          : !isOver(x) && x.state !== 'absent' && <IconButton icon="pause" label={t('upload.pause', { name: x.path })} onClick={() => queue.pause(x)} />}
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
    case 'absent': return t(x.handle ? 'transfer.permit' : 'transfer.absent');
    case 'stored': return t('transfer.stored');
    case 'known': return t('transfer.known');
    case 'declined': return t('transfer.declined');
    case 'refused': return t('transfer.refused');
    case 'failed': return t('transfer.failed');
  }
}

/** What this browser has offered to the box, and what became of it; read when somebody wants to know. */
function Ledger({ done }: { done: number }) {
  const device = memory.get('yunbox.device');
  const [open, setOpen] = useState(false);
  const [turn, setTurn] = useState(0);
  useEffect(() => setTurn((n) => n + 1), [done]);
  if (!device) return null;
  return (
    <details class="card more-card" onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary><h2>{t('history.title')}</h2></summary>
      <p class="hint">{t('devices.historyText')}</p>
      {open && <History device={device} turn={turn} />}
    </details>
  );
}

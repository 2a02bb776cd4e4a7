import { useState } from 'preact/hooks';
import { call, Problem } from '../api';
import { Icon } from '../icons';
import { date, t } from '../i18n';
import { Button, Note, ProblemNote, save } from '../ui';
import { queue } from './queue';

interface Verified {
  sha256: string;
  state: 'stored' | 'trash' | 'damaged' | 'missing' | 'unknown';
  checked: 'read' | 'size' | 'none';
  read_back: string | null;
}
interface Answer {
  complete: boolean;
  items: Verified[];
  jws: string;
}

const QUESTION = 1000; // contents
const READING = 30 * 60_000; // ms; the box reads one file whole, however large

interface Found {
  time: number;
  items: Map<string, Verified>;
  signed: string[]; // receipts, one for each question
}

/** Proof for whoever wants to free space: what the box finds on its disk of all that was backed up here. */
export function Proof() {
  const [found, set] = useState<Found | null>(null);
  const [reading, setReading] = useState<number | null>(null); // contents read so far
  const [problem, setProblem] = useState<Problem | null>(null);
  const kept = queue.all.filter((x) => x.state === 'stored' || x.state === 'known');
  const refs = [...new Set(kept.map((x) => x.sha256))];

  const ask = async (read: boolean) => {
    setProblem(null);
    setReading(0);
    const items = new Map<string, Verified>();
    const signed: string[] = [];
    try {
      for (let at = 0; at < refs.length; at += QUESTION) {
        let left = refs.slice(at, at + QUESTION);
        while (left.length > 0) {
          const a = await call<Answer>('POST', '/v1/blobs/verify', { sha256: left, read }, false, READING);
          signed.push(a.jws);
          for (const i of a.items) items.set(i.sha256, i);
          const rest = read && !a.complete ? a.items.filter((i) => i.state === 'stored' && i.checked !== 'read').map((i) => i.sha256) : [];
          setReading(items.size - rest.length);
          left = rest.length < left.length ? rest : []; // the box reads at least one each time
        }
      }
      set({ time: Date.now(), items, signed });
    } catch (e) {
      setProblem(Problem.of(e));
    }
    setReading(null);
  };
  if (kept.length === 0) return null;
  const busy = reading !== null;
  return (
    <section class="card" aria-label={t('proof.title')}>
      <h2>{t('proof.title')}</h2>
      <p>{t('proof.text')}</p>
      <div class="verdict" aria-live="polite">
        {busy && <p class="hint">{t('proof.busy', { n: reading, of: refs.length })}</p>}
        {found && !busy && <Verdict found={found} />}
      </div>
      {problem && <ProblemNote problem={problem} />}
      <div class="row-end">
        {found && <Button icon="download" onClick={() => save(found.signed.join('\n') + '\n', 'text/plain', `yunbox-proof-${new Date(found.time).toISOString().slice(0, 19).replace(/:/g, '')}.jws`)}>{t('proof.save')}</Button>}
        {found && <Button icon="again" busy={busy} onClick={() => void ask(true)}>{t('proof.read')}</Button>}
        {!found && <Button kind="main" icon="check" busy={busy} onClick={() => void ask(false)}>{t('proof.do', { n: kept.length })}</Button>}
      </div>
    </section>
  );
}

function Verdict({ found: f }: { found: Found }) {
  const items = [...f.items.values()];
  const safe = items.filter((i) => i.state === 'stored');
  const lost = items.filter((i) => i.state === 'damaged' || i.state === 'missing');
  const other = items.length - safe.length - lost.length;
  const times = safe.flatMap((i) => (i.read_back ? [i.read_back] : [])).sort();
  const unread = safe.length - times.length;
  const sound = new Set(safe.map((i) => i.sha256));
  const files = queue.all.filter((x) => (x.state === 'stored' || x.state === 'known') && sound.has(x.sha256)).length;
  return (
    <>
      {files > 0 && (
        <div class="note good">
          <Icon name="check" />
          <div>
            <strong>{t('proof.safe', { n: files })}</strong>
            {times.length > 0 && <p>{unread > 0 ? t('proof.some', { n: times.length, date: date(times[0]!) }) : t('proof.last', { date: date(times[0]!) })}</p>}
            {unread > 0 && <p>{t('proof.unread', { n: unread })}</p>}
          </div>
        </div>
      )}
      {lost.length > 0 && (
        <Note kind="warn" icon="warn">
          <strong>{t('proof.lost', { n: lost.length })}</strong>
          <p><Button icon="again" onClick={() => queue.resend(new Set(lost.map((i) => i.sha256)))}>{t('proof.resend')}</Button></p>
        </Note>
      )}
      {other > 0 && <Note kind="warn" icon="warn">{t('proof.gone', { n: other })}</Note>}
      <p class="hint">{t('proof.about')}</p>
    </>
  );
}

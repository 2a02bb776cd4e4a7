import { useEffect, useRef, useState } from 'preact/hooks';
import { get, Problem, type Offer } from './api';
import { dateTime, size, t, word } from './i18n';
import { Button, Empty, Loading, ProblemNote, Said } from './ui';

const PAGE = 50;
const outcomes = ['', 'stored', 'known', 'declined', 'failed'] as const;

/** What a device has offered and what became of it: why a photo is here, or is not. */
export function History({ device, turn = 0 }: { device: string; turn?: number }) {
  const [outcome, setOutcome] = useState<(typeof outcomes)[number]>('');
  const [entries, set] = useState<Offer[] | null>(null);
  const [next, setNext] = useState<string | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const asked = useRef(0);
  const more = async (cursor: string | null) => {
    const turn = ++asked.current;
    const query = new URLSearchParams({ limit: String(PAGE), ...(outcome ? { outcome } : {}), ...(cursor ? { cursor } : {}) });
    try {
      const page = await get<{ entries: Offer[]; next: string | null }>(`/v1/devices/${device}/ledger?${query}`);
      if (turn !== asked.current) return; // another question was asked meanwhile
      set((have) => (cursor ? [...(have ?? []), ...page.entries] : page.entries));
      setNext(page.next);
      setProblem(null);
    } catch (e) {
      if (turn === asked.current) setProblem(Problem.of(e));
    }
  };
  useEffect(() => void more(null), [device, outcome, turn]);
  return (
    <>
      <div class="chips" role="group" aria-label={t('history.show')}>
        {outcomes.map((o) => (
          <button type="button" class="chip" aria-pressed={o === outcome} onClick={() => setOutcome(o)}>{o ? word('outcome', o) : t('history.all')}</button>
        ))}
      </div>
      {problem && <ProblemNote problem={problem} />}
      {!entries && !problem && <Loading />}
      {entries?.length === 0 && <Empty icon="receipt" title={t(outcome ? 'history.noneOf' : 'devices.historyNone')} />}
      <ul class="lines">
        {entries?.map((o) => (
          <li>
            <span class="line-main">
              <strong class="file-name">{o.path || t('history.unnamed')}</strong>
              <small>{dateTime(o.time)}{o.size ? ` · ${size(o.size)}` : ''}</small>
              {o.reason && <small><Said of={o.reason} /></small>}
            </span>
            <span class={`tag ${o.outcome === 'stored' || o.outcome === 'known' ? 'good' : 'warn'}`}>{word('outcome', o.outcome)}</span>
          </li>
        ))}
      </ul>
      {next && <div class="load-more"><Button onClick={() => void more(next)}>{t('files.more')}</Button></div>}
    </>
  );
}

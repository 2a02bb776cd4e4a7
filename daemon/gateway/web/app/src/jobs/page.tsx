import { useEffect } from 'preact/hooks';
import { get } from '../api';
import { dateTime, duration, learn, size, table } from '../i18n';
import { href } from '../route';
import { isAdmin, session } from '../session';
import { Note, ProblemNote, Said, useLoad } from '../ui';
import en from './en.json';
import zh from './zh.json';
import server from './server.zh.json';

learn(server);

const j = table(en, zh);

interface Job {
  kind: string;
  state: string;
  phase: string;
  mine: boolean;
  count: number;
  done: number;
  total: number;
  bytes: number;
  size: number;
  since: string | null;
  until: string | null;
  ended: string | null;
  seconds_left: number;
  stop: string;
  says: string;
  do: string;
}

/** What each kind is called, what it counts, and where its own person sees more of it. */
const kinds: Record<string, { title: keyof typeof en; unit: 'jobs.contents' | 'jobs.files' | 'jobs.records'; page?: string } | undefined> = {
  scrub: { title: 'jobs.scrub', unit: 'jobs.contents' },
  view: { title: 'jobs.view', unit: 'jobs.files' },
  'second-copy': { title: 'jobs.second-copy', unit: 'jobs.contents' },
  duplicates: { title: 'jobs.duplicates', unit: 'jobs.files', page: 'duplicates' },
  export: { title: 'jobs.export', unit: 'jobs.files', page: 'data' },
  erasure: { title: 'jobs.erasure', unit: 'jobs.records', page: 'rights' },
  cancellation: { title: 'jobs.cancellation', unit: 'jobs.records', page: 'rights' },
};
const states: Record<string, keyof typeof en | undefined> = {
  running: 'jobs.running', waiting: 'jobs.waiting', done: 'jobs.done', failed: 'jobs.failed', stopped: 'jobs.stopped',
};
const phases: Record<string, keyof typeof en | undefined> = { listing: 'jobs.listing', sending: 'jobs.sending', tidying: 'jobs.tidying' };

const goesOn = (x: Job) => x.state === 'running' || x.state === 'waiting';

/** What runs in the background, and how it ended last: of the box for who manages it, else the person's own, if there is any. */
export default function Jobs() {
  const list = useLoad(async () => (await get<{ jobs: Job[] }>('/v1/jobs')).jobs, []);
  const admin = isAdmin(session.value.me!);
  const now = list.value?.filter(goesOn) ?? [];
  const before = list.value?.filter((x) => !goesOn(x)) ?? [];
  const runs = now.some((x) => x.state === 'running');
  useEffect(() => {
    // Nothing is asked while nothing runs: a page that is left open keeps nobody signed in.
    const look = () => document.hidden || list.reload();
    const timer = runs ? setInterval(look, 2000) : 0;
    addEventListener('focus', look);
    return () => {
      clearInterval(timer);
      removeEventListener('focus', look);
    };
  }, [runs]);
  if (list.problem && !list.value) return <ProblemNote problem={list.problem} />;
  if (!list.value || (!admin && list.value.length === 0)) return <></>;
  return (
    <section class="card" aria-labelledby="jobs-title">
      <h2 id="jobs-title">{j('jobs.title')}</h2>
      {now.length === 0 ? <p>{j('jobs.none')}</p> : <ul class="plain-list">{now.map((x) => <Line of={x} />)}</ul>}
      {before.length > 0 && (
        <>
          <h3>{j('jobs.before')}</h3>
          <ul class="plain-list">{before.map((x) => <Line of={x} />)}</ul>
        </>
      )}
      {admin && <p class="hint">{j('jobs.text')}</p>}
    </section>
  );
}

function Line({ of: x }: { of: Job }) {
  const kind = kinds[x.kind];
  const title = kind ? j(kind.title) : x.kind;
  const state = states[x.state];
  const whose = !kind?.page ? '' : x.mine ? j('jobs.mine') : j('jobs.others', { n: x.count });
  const [part, whole] = x.size > 0 ? [x.bytes, x.size] : [x.done, x.total];
  return (
    <li>
      <div class="card-head">
        <span><strong>{title}</strong>{whose && ` · ${whose}`}{kind?.page && x.mine && <> · <a href={href(kind.page)}>{j('jobs.go')}</a></>}</span>
        <span class={x.state === 'failed' ? 'tag bad' : x.says ? 'tag warn' : x.state === 'done' ? 'tag good' : 'tag'}>{state ? j(state) : x.state}</span>
      </div>
      {x.state === 'running' && <progress class="progress" aria-label={title} max={whole || 1} {...(whole > 0 ? { value: part } : {})} />}
      <p class="hint">{facts(x, kind?.unit ?? 'jobs.records').join(' · ')}</p>
      {x.says && (
        <Note kind="warn" icon="warn">
          <p><Said of={x.says} /></p>
          {x.do && <p><Said of={x.do} /></p>}
        </Note>
      )}
      {x.stop && goesOn(x) && <p class="hint">{j('jobs.stop')} <Said of={x.stop} /></p>}
    </li>
  );
}

/** How far it is, since when and until when, as far as that is known. */
function facts(x: Job, unit: 'jobs.contents' | 'jobs.files' | 'jobs.records'): string[] {
  const phase = phases[x.phase];
  const running = x.state === 'running';
  return [
    x.count > 1 && j('jobs.many', { n: x.count }),
    running && phase && j(phase),
    running && x.total > 0 && j(unit, { done: x.done, total: x.total }),
    running && x.size > 0 && j('jobs.bytes', { done: size(x.bytes), total: size(x.size) }),
    running && x.size === 0 && x.bytes > 0 && size(x.bytes),
    running && x.seconds_left > 0 && j('jobs.left', { time: duration(x.seconds_left) }),
    x.kind === 'export' && x.state === 'done' && j('jobs.ready'),
    x.state === 'done' && x.size > 0 && size(x.size),
    goesOn(x) && x.since && j('jobs.since', { time: dateTime(x.since) }),
    x.until && j('jobs.until', { time: dateTime(x.until) }),
    x.ended && j('jobs.ended', { time: dateTime(x.ended) }),
  ].filter((s): s is string => typeof s === 'string');
}

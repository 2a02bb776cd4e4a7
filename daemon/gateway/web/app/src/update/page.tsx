import { useEffect, useRef } from 'preact/hooks';
import { call, get } from '../api';
import { dateTime, learn, size, table } from '../i18n';
import { Button, Head, Note, ProblemNote, Said, say, Show, useAct, useLoad } from '../ui';
import en from './en.json';
import zh from './zh.json';
import server from './server.zh.json';

learn(server);

const u = table(en, zh);

interface State {
  version: string;
  counter: number;
  keys: boolean;
  floor: number;
  previous: string | null;
  waiting: { version: string; counter: number; created: string; size: number; moves: boolean } | null;
  running: string | null;
  on_trial: boolean;
  last: { outcome: string; version: string; runs: string; title?: string; detail?: string; hint?: string } | null;
}

/** How long sending the file and verifying it may take, in ms. */
const PATIENCE = 30 * 60_000;

/** The box's software, for who manages the box. */
export default function UpdatePage() {
  const now = useLoad(() => get<State>('/v1/update'), []);
  const act = useAct();
  const file = useRef<HTMLInputElement>(null);
  const busy = now.value !== null && (now.value?.running != null || now.value?.on_trial === true);
  useEffect(() => {
    // The box is away while it changes; it is asked until it is back.
    const timer = setInterval(() => (busy || now.problem) && now.reload(), 2000);
    return () => clearInterval(timer);
  });
  const send = (f: File) => act.run(async () => { await call('PUT', '/v1/update/bundle', f, false, PATIENCE); now.reload(); });
  const ask = (what: string, body?: unknown) => act.run(async () => { await call('POST', '/v1/update/' + what, body); say(u('update.asked')); now.reload(); });
  const drop = () => act.run(async () => { await call('DELETE', '/v1/update/bundle'); now.reload(); });
  return (
    <>
      <Head title={u('update.title')} text={u('update.text')} />
      <Show of={now}>
        {(s) => (
          <>
            <section class="card" aria-labelledby="update-now">
              <h2 id="update-now">{u('update.version')} {s.version}</h2>
              {s.counter > 0 && <p>{u('update.release', { n: s.counter })}{s.floor > 0 && ` · ${u('update.floor', { n: s.floor })}`}</p>}
              {s.counter === 0 ? <Note><p>{u('update.noPackage')}</p></Note> : !s.keys && <Note><p>{u('update.noKeys')}</p></Note>}
              {s.on_trial ? <Note icon="again"><p><strong>{u('update.trial')}</strong> {u('update.trialText')}</p></Note> : s.running && <Note icon="again"><p>{u('update.running')}</p></Note>}
              {s.last && <Last of={s.last} />}
            </section>
            {act.problem && <ProblemNote problem={act.problem} />}
            {s.waiting && !busy && (
              <section class="card wanted" aria-labelledby="update-waiting">
                <h2 id="update-waiting">{u('update.waiting', { version: s.waiting.version })}</h2>
                <p>{u('update.waitingText', { n: s.waiting.counter, size: size(s.waiting.size), time: dateTime(s.waiting.created) })}</p>
                {s.waiting.moves && <Note kind="warn" icon="warn"><p>{u('update.moves')}</p></Note>}
                <p>{u('update.how')}</p>
                <div class="row-end">
                  <Button busy={act.busy} onClick={() => void drop()}>{u('update.discard')}</Button>
                  <Button kind="main" icon="check" busy={act.busy} onClick={() => void ask('install', { counter: s.waiting!.counter })}>{u('update.install')}</Button>
                </div>
              </section>
            )}
            {s.counter > 0 && s.keys && !busy && (
              <section class="card" aria-labelledby="update-give">
                <h2 id="update-give">{u('update.give')}</h2>
                <p>{u('update.giveText')}</p>
                {act.busy && <p class="hint" role="status">{u('update.sending')}</p>}
                <input ref={file} type="file" accept=".yup" hidden onChange={(e) => { const f = e.currentTarget.files?.[0]; e.currentTarget.value = ''; if (f) void send(f); }} />
                <div class="row-end"><Button icon="upload" busy={act.busy} onClick={() => file.current?.click()}>{u('update.file')}</Button></div>
              </section>
            )}
            {s.previous && !busy && (
              <section class="card" aria-labelledby="update-before">
                <h2 id="update-before">{u('update.before')}</h2>
                <p>{u('update.backText')}</p>
                <div class="row-end"><Button icon="restore" busy={act.busy} onClick={() => void ask('rollback')}>{u('update.back', { version: s.previous! })}</Button></div>
              </section>
            )}
          </>
        )}
      </Show>
    </>
  );
}

function Last({ of }: { of: NonNullable<State['last']> }) {
  if (of.outcome === 'kept') return <Note kind="good" icon="check"><p>{u('update.last')} {u('update.kept', { version: of.version })}</p></Note>;
  if (of.outcome === 'back') return <Note kind="warn" icon="warn"><p>{u('update.last')} {u('update.gaveUp', { version: of.version, runs: of.runs })}</p></Note>;
  return (
    <Note kind="warn" icon="warn">
      <p>{u('update.last')} {u('update.refused')}</p>
      {[of.title, of.detail, of.hint].map((x) => x && <p><Said of={x} /></p>)}
    </Note>
  );
}

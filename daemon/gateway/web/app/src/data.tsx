import { useEffect, useState } from 'preact/hooks';
import { call, get, Problem } from './api';
import { Icon } from './icons';
import { date, dateTime, lang, percent, size, t, word } from './i18n';
import { href } from './route';
import { refresh } from './session';
import { Button, Dialog, Empty, Field, Head, Loading, Note, ProblemNote, Said, say, Show, useAct, useLoad } from './ui';

interface Words { en: string; zh: string }
interface Category {
  id: string;
  title: Words;
  what: Words;
  source: Words;
  retention: Words;
  correction: Words;
  purposes: string[];
  records: number;
  bytes: number;
  erasable: boolean;
  stays?: Words;
  period?: { days: number; next?: string };
}
interface Data {
  categories: Category[];
  places: { name: string; outside: boolean; what: Words; ends: Words }[];
}
interface Export {
  id: string;
  state: 'preparing' | 'ready' | 'failed';
  expires: string;
  listed: number;
  size: number | null;
  sent: number;
  missing: number;
  file_name: string;
  failure: string | null;
}

const said = (w: Words) => (lang.value === 'zh' ? w.zh : w.en);

/** Everything that the box holds about the person, and the way to have it all. */
export function DataPage() {
  const data = useLoad(() => get<Data>('/v1/me/data'), []);
  return (
    <>
      <Head title={t('data.title')} text={t('data.text')} />
      <TakeAway />
      <h2 class="section-title">{t('data.kinds')}</h2>
      <p class="section-text">{t('data.kindsText')}</p>
      <Show of={data}>
        {(d) => (
          <>
            {d.categories.filter((c) => c.records > 0).map((c) => <Kind of={c} key={c.id} />)}
            <section class="card">
              <details class="more">
                <summary>{t('data.nothing', { n: d.categories.filter((c) => c.records === 0).length })}</summary>
                <dl class="facts">
                  {d.categories.filter((c) => c.records === 0).map((c) => <div><dt>{said(c.title)}</dt><dd>{said(c.what)}</dd></div>)}
                </dl>
              </details>
            </section>
            <section class="card">
              <details class="more">
                <summary>{t('data.places')}</summary>
                <p class="hint">{t('data.placesText')}</p>
                <dl class="facts">
                  {d.places.map((p) => <div><dt>{p.outside ? word('place', p.name) : <code>{p.name}</code>}</dt><dd>{said(p.what)} {said(p.ends)}</dd></div>)}
                </dl>
              </details>
            </section>
          </>
        )}
      </Show>
    </>
  );
}

/** One kind of data: what it is, and each record of it. */
function Kind({ of }: { of: Category }) {
  const [open, show] = useState(false);
  return (
    <section class="card data-kind">
      <div class="card-head">
        <h3>{said(of.title)}</h3>
        <span class="big">{t('data.records', { n: of.records })}{of.bytes > 0 && ` · ${size(of.bytes)}`}</span>
      </div>
      <p>{said(of.what)}</p>
      <dl class="facts">
        <div><dt>{t('data.from')}</dt><dd>{said(of.source)}</dd></div>
        <div><dt>{t('data.kept')}</dt><dd>{said(of.retention)} {of.period?.next && t('rights.goes', { date: date(of.period.next) })} {of.stays && said(of.stays)}</dd></div>
        <div><dt>{t('data.fix')}</dt><dd>{said(of.correction)}</dd></div>
        <div>
          <dt>{t('data.rests')}</dt>
          <dd>{of.purposes.length === 0 ? t('data.needed') : <a href={href('consents')}>{t('data.consents', { n: of.purposes.length })}</a>}</dd>
        </div>
      </dl>
      {of.erasable && <p><a href={href('rights', of.id)} aria-label={t('rights.eraseOne', { name: said(of.title) })}>{t('rights.erase')}</a></p>}
      <details class="more" onToggle={(e) => show(e.currentTarget.open)}>
        <summary aria-label={t('data.showOne', { name: said(of.title) })}>{t('data.show')}</summary>
        {open && <Records of={of.id} />}
      </details>
    </section>
  );
}

type DataRecord = Record<string, unknown>;

const PAGE = 50;

function Records({ of }: { of: string }) {
  const [list, set] = useState<DataRecord[] | null>(null);
  const [next, setNext] = useState<string | null>(null);
  const act = useAct();
  const more = (cursor: string | null) =>
    act.run(async () => {
      const query = new URLSearchParams({ limit: String(PAGE), ...(cursor ? { cursor } : {}) });
      const page = await get<{ records: DataRecord[]; next: string | null }>(`/v1/me/data/${of}?${query}`);
      set((have) => (cursor ? [...(have ?? []), ...page.records] : page.records));
      setNext(page.next);
    });
  useEffect(() => void more(null), [of]);
  return (
    <>
      {act.problem && <ProblemNote problem={act.problem} />}
      {!list && !act.problem && <Loading />}
      {list?.length === 0 && <Empty icon="receipt" title={t('data.gone')} />}
      <ul class="lines">{list?.map((r) => <Line of={r} onCorrect={() => void more(null)} />)}</ul>
      {next && <div class="load-more"><Button busy={act.busy} onClick={() => void more(next)}>{t('files.more')}</Button></div>}
    </>
  );
}

/** What a record is called: the first of these that it has. */
const names = ['path', 'name', 'username', 'action', 'purpose', 'change', 'entry', 'jws', 'sha256', 'device', 'id'];
const moment = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/;

function value(v: unknown): string {
  if (typeof v === 'string') return moment.test(v) ? dateTime(v) : v;
  if (typeof v === 'number') return String(v);
  if (typeof v === 'boolean') return t(v ? 'data.yes' : 'data.no');
  return JSON.stringify(v);
}

/** How a record is corrected: what of it, and by which request. */
const corrections: Record<string, { field: 'path' | 'name' | 'username'; time?: boolean; send: (r: DataRecord, to: string, time: string) => Promise<unknown> }> = {
  file: { field: 'path', time: true, send: (r, to, time) => call('PATCH', `/v1/items/${r['id']}`, { ...(to !== r['path'] && { path: to }), ...(time && { mtime: time }) }) },
  account: { field: 'username', send: (_, to) => call('PUT', '/v1/me/username', { username: to }).then(refresh) },
  device: { field: 'name', send: (r, to) => call('PATCH', `/v1/devices/${r['id']}`, { name: to }) },
  app_password: { field: 'name', send: (r, to) => call('PATCH', `/v1/tokens/${r['id']}`, { name: to }) },
  camera_password: { field: 'name', send: (r, to) => call('PATCH', `/v1/tokens/${r['id']}`, { name: to }) },
};

/** A time as an input for it has it: in the zone of the browser, to the second. */
const local = (time: unknown) => (typeof time === 'string' ? new Date(Date.parse(time) - new Date(time).getTimezoneOffset() * 60_000).toISOString().slice(0, 19) : '');

function Correct({ of, onClose, onDone }: { of: DataRecord; onClose: () => void; onDone: () => void }) {
  const how = corrections[String(of['kind'])]!;
  const [to, setTo] = useState(String(of[how.field]));
  const before = local(of['mtime']);
  const [time, setTime] = useState(before);
  const act = useAct();
  const submit = async () => {
    const done = await act.run(async () => {
      await how.send(of, to, time && time !== before ? new Date(time).toISOString() : '');
      say(t('data.corrected'));
    });
    if (done) onDone();
  };
  return (
    <Dialog title={t('data.correct')} onClose={onClose}>
      <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <Field label={word('field', how.field)} value={to} onInput={setTo} required autocomplete="off" spellcheck={false} hint={how.field === 'username' ? t('data.renameHint') : undefined} />
        {how.time && (
          <div class="field">
            <label for="correct-time">{word('field', 'mtime')}</label>
            <input id="correct-time" class="input" type="datetime-local" step={1} value={time} onInput={(e) => setTime(e.currentTarget.value)} />
          </div>
        )}
        {act.problem && <ProblemNote problem={act.problem} />}
        <div class="row-end"><Button onClick={onClose}>{t('cancel')}</Button><Button kind="main" type="submit" busy={act.busy}>{t('save')}</Button></div>
      </form>
    </Dialog>
  );
}

function Line({ of, onCorrect }: { of: DataRecord; onCorrect: () => void }) {
  const name = names.find((n) => of[n] !== undefined);
  const [open, show] = useState(false);
  return (
    <li>
      <span class="line-main">
        <strong class="file-name">{name ? value(of[name]) : word('record', String(of['kind']))}</strong>
        <small>
          {Object.entries(of).filter(([k, v]) => k !== 'kind' && k !== name && v !== '').map(([k, v]) => (
            <span class="data-field">{word('field', k)} <b>{k === 'act' ? word('record', String(v)) : k === 'size' && typeof v === 'number' && v >= 0 ? size(v) : value(v)}</b></span>
          ))}
        </small>
      </span>
      <span class="line-acts">
        <span class="tag">{word('record', String(of['kind']))}</span>
        {String(of['kind']) in corrections && <Button kind="quiet" aria-label={t('data.correctOne', { name: value(of[name!]) })} onClick={() => show(true)}>{t('data.correct')}</Button>}
      </span>
      {open && <Correct of={of} onClose={() => show(false)} onDone={() => { show(false); onCorrect(); }} />}
    </li>
  );
}

/** The export: asked for, prepared, fetched by the browser itself, which goes on after a cut. */
function TakeAway() {
  const [is, set] = useState<Export | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [versions, setVersions] = useState(false);
  const [trash, setTrash] = useState(false);
  const [fetching, fetched] = useState(false);
  const [turn, again] = useState(0);
  const act = useAct();
  useEffect(() => {
    let timer = 0;
    let current = true;
    const look = async () => {
      try {
        const e = (await get<{ exports: Export[] }>('/v1/me/exports')).exports[0] ?? null;
        if (!current) return;
        set(e);
        setProblem(null);
        if (e?.state === 'preparing' || (fetching && e?.state === 'ready' && e.sent < (e.size ?? 0))) timer = setTimeout(look, 1000);
      } catch (e) {
        if (!current) return;
        setProblem(Problem.of(e));
        timer = setTimeout(look, 5000);
      }
    };
    void look();
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [turn]);
  const begin = () =>
    act.run(async () => {
      set(await call<Export>('POST', '/v1/me/exports', { versions, trash }));
      fetched(false);
      again((n) => n + 1);
    });
  const remove = () =>
    act.run(async () => {
      await call('DELETE', `/v1/me/exports/${is!.id}`);
      set(null);
      fetched(false);
    });
  return (
    <section class="card">
      <h2>{t('export.title')}</h2>
      <p>{t('export.text')}</p>
      {problem && <ProblemNote problem={problem} />}
      {act.problem && <ProblemNote problem={act.problem} />}
      {(!is || is.state === 'failed') && (
        <form onSubmit={(e) => { e.preventDefault(); void begin(); }}>
          {is?.failure && <Note kind="warn" icon="warn"><Said of={is.failure} /></Note>}
          <label class="check"><input type="checkbox" checked={versions} onChange={(e) => setVersions(e.currentTarget.checked)} /><span>{t('export.versions')}</span></label>
          <label class="check"><input type="checkbox" checked={trash} onChange={(e) => setTrash(e.currentTarget.checked)} /><span>{t('export.trash')}</span></label>
          <div class="row-end"><Button kind="main" type="submit" icon="download" busy={act.busy}>{t('export.prepare')}</Button></div>
        </form>
      )}
      {is?.state === 'preparing' && (
        <div role="status">
          <Note icon="again">{t('export.preparing', { n: is.listed })}</Note>
          <div class="row-end"><Button busy={act.busy} onClick={() => void remove()}>{t('cancel')}</Button></div>
        </div>
      )}
      {is?.state === 'ready' && (
        <>
          <Note kind="good" icon="check">
            <strong>{t('export.ready', { n: is.listed, size: size(is.size ?? 0) })}</strong>
            <p>{t('export.until', { date: date(is.expires) })}</p>
            {is.sent > 0 && <p role="status">{is.sent >= (is.size ?? 0) ? t('export.done') : t('export.sent', { part: percent(is.sent, is.size ?? 0) })}</p>}
            {is.missing > 0 && <p>{t('export.missing', { n: is.missing })}</p>}
          </Note>
          <div class="row-end">
            <Button busy={act.busy} onClick={() => void remove()}>{t('export.remove')}</Button>
            <a class="button main" href={`/v1/me/exports/${is.id}/archive`} download={is.file_name} onClick={() => { fetched(true); setTimeout(() => again((n) => n + 1), 1500); }}>
              <Icon name="download" /><span>{t('export.fetch')}</span>
            </a>
          </div>
        </>
      )}
      <p class="hint">{t('export.how')}</p>
    </section>
  );
}

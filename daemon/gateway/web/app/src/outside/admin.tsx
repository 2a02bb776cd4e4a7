import { useState } from 'preact/hooks';
import { call, get, Problem } from '../api';
import { dateTime } from '../i18n';
import { Button, Dialog, Empty, Field, Note, ProblemNote, say as toast, Show, useAct, useLoad } from '../ui';
import { o, textOf, type Text } from './texts';

interface Scope { everyone?: boolean; people?: string[]; touched?: string[] }
interface Managed {
  id: string;
  happened: string;
  contact: string;
  text: Record<string, Text | undefined>;
  scope: Scope;
  sent: string | null;
  published: string | null;
  ended: string | null;
  reach: { people: number; seen: number; mailed: number; waiting: number; failed: number };
  people: { username: string; seen: string | null; mail: string }[];
}

/** Notices of incidents, for whoever runs the box. */
export function Incidents() {
  const all = useLoad(async () => (await get<{ incidents: Managed[] }>('/v1/incidents')).incidents, []);
  const [edited, edit] = useState<Managed | 'new' | null>(null);
  const [sure, ask] = useState<Managed | null>(null);
  const [shown, show] = useState<Managed | null>(null);
  const [publish, setPublish] = useState(false);
  const act = useAct();
  const send = (i: Managed) => act.run(async () => { await call('POST', `/v1/incidents/${i.id}/send`, { publish }); ask(null); all.reload(); toast(o('outside.sent')); });
  const drop = (path: string) => act.run(async () => { await call('DELETE', path); all.reload(); });
  return (
    <section class="card" aria-labelledby="outside-incidents">
      <div class="card-head">
        <h2 id="outside-incidents">{o('outside.incidents')}</h2>
        <Button icon="plus" onClick={() => edit('new')}>{o('outside.write')}</Button>
      </div>
      <p>{o('outside.incidentsText')}</p>
      {act.problem && !sure && <ProblemNote problem={act.problem} />}
      <Show of={all}>
        {(list) => list.length === 0 ? <Empty icon="check" title={o('outside.none')} /> : (
          <ul class="lines">
            {list.map((i) => {
              const { text, lang } = textOf(i.text);
              return (
                <li key={i.id}>
                  <span class="line-main">
                    <strong lang={lang}>{text.title}</strong>
                    <small>
                      {i.sent ? o('outside.reach', { time: dateTime(i.sent), n: i.reach.people, seen: i.reach.seen, mailed: i.reach.mailed }) : o('outside.draft')}
                      {i.published && !i.ended && ` · ${o('outside.published')}`}
                    </small>
                  </span>
                  <span class="line-acts">
                    {!i.sent && <Button kind="quiet" onClick={() => edit(i)}>{o('outside.edit')}</Button>}
                    {!i.sent && <Button kind="quiet" onClick={() => { setPublish(false); act.clear(); ask(i); }}>{o('outside.send')}</Button>}
                    {!i.sent && <Button kind="quiet" onClick={() => void drop('/v1/incidents/' + i.id)}>{o('outside.remove')}</Button>}
                    {i.sent && <Button kind="quiet" onClick={() => void act.run(async () => show(await get<Managed>('/v1/incidents/' + i.id)))}>{o('outside.who')}</Button>}
                    {i.published && !i.ended && <Button kind="quiet" onClick={() => void drop(`/v1/incidents/${i.id}/publication`)}>{o('outside.end')}</Button>}
                  </span>
                </li>
              );
            })}
          </ul>
        )}
      </Show>
      {edited && <Editor of={edited === 'new' ? null : edited} onClose={() => edit(null)} onDone={() => { edit(null); all.reload(); }} />}
      {sure && (
        <Dialog title={o('outside.sure')} onClose={() => ask(null)}>
          <p>{o('outside.sureText')}</p>
          <label class="check"><input type="checkbox" checked={publish} onChange={(e) => setPublish(e.currentTarget.checked)} /><span>{o('outside.publish')}<small>{o('outside.publishText')}</small></span></label>
          {act.problem && <ProblemNote problem={act.problem} />}
          <div class="row-end"><Button onClick={() => ask(null)}>{o('outside.cancel')}</Button><Button kind="main" busy={act.busy} onClick={() => void send(sure)}>{o('outside.send')}</Button></div>
        </Dialog>
      )}
      {shown && (
        <Dialog title={o('outside.who')} onClose={() => show(null)}>
          <ul class="lines">
            {shown.people.map((p) => (
              <li><span class="line-main"><strong>{p.username}</strong><small>{p.seen ? o('outside.seenAt', { time: dateTime(p.seen) }) : o('outside.notSeen')} · {p.mail === 'sent' ? o('outside.mailSent') : p.mail === 'waiting' ? o('outside.mailWaits') : p.mail === 'failed' ? o('outside.mailFailed') : o('outside.mailNone')}</small></span></li>
            ))}
          </ul>
        </Dialog>
      )}
    </section>
  );
}

const empty: Text = { title: '', what: '', effect: '', measures: '', advice: '', remedies: '' };
const parts = [['what', 'outside.what'], ['effect', 'outside.effect'], ['measures', 'outside.measures'], ['advice', 'outside.advice'], ['remedies', 'outside.remedies']] as const;
const local = (time: Date) => new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);

function Editor({ of, onClose, onDone }: { of: Managed | null; onClose: () => void; onDone: () => void }) {
  const [text, setText] = useState<Record<string, Text | undefined>>(of?.text ?? { en: empty });
  const [contact, setContact] = useState(of?.contact ?? '');
  const [happened, setHappened] = useState(local(of ? new Date(of.happened) : new Date()));
  const [scope, setScope] = useState<'everyone' | 'people' | 'touched'>(of?.scope.people ? 'people' : of?.scope.touched ? 'touched' : 'everyone');
  const [chosen, choose] = useState<string[]>([...(of?.scope.people ?? []), ...(of?.scope.touched ?? [])]);
  const lists = useLoad(async () => {
    const [{ users }, { categories }] = await Promise.all([
      get<{ users: { id: string; username: string }[] }>('/v1/users'),
      get<{ categories: { id: string; title: { en: string; zh: string } }[] }>('/v1/me/data'),
    ]);
    return { people: users.map((u) => [u.id, u.username] as const), touched: categories.map((c) => [c.id, o('outside.title') === '盒子之外' ? c.title.zh : c.title.en] as const), everyone: [] };
  }, []);
  const act = useAct();
  const change = (l: string, key: keyof Text, v: string) => setText({ ...text, [l]: { ...text[l]!, [key]: v } });
  const submit = async () => {
    const body = {
      happened: new Date(happened).toISOString(), contact, text,
      scope: scope === 'everyone' ? { everyone: true } : scope === 'people' ? { people: chosen } : { touched: chosen },
    };
    if (await act.run(async () => void (await call(of ? 'PUT' : 'POST', of ? '/v1/incidents/' + of.id : '/v1/incidents', body)))) onDone();
  };
  return (
    <Dialog title={o('outside.write')} onClose={onClose} wide>
      <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <div class="field"><label for="outside-when">{o('outside.when')}</label><input id="outside-when" class="input" type="datetime-local" required value={happened} onInput={(e) => setHappened(e.currentTarget.value)} /></div>
        <Field label={o('outside.contact')} value={contact} onInput={setContact} required maxLength={200} />
        {(['en', 'zh'] as const).map((l) => text[l] ? (
          <fieldset class="choice" key={l}>
            <legend><h3>{l === 'en' ? 'English' : '中文'}</h3></legend>
            <Field label={o('outside.titleField')} value={text[l]!.title} onInput={(v) => change(l, 'title', v)} required maxLength={200} />
            {parts.map(([key, label]) => (
              <div class="field" key={key}>
                <label for={`outside-${l}-${key}`}>{o(label)}</label>
                <textarea id={`outside-${l}-${key}`} class="input" rows={3} required maxLength={4000} lang={l} value={text[l]![key]} onInput={(e) => change(l, key, e.currentTarget.value)} />
              </div>
            ))}
            {Object.values(text).filter(Boolean).length > 1 && <Button kind="quiet" onClick={() => setText({ ...text, [l]: undefined })}>{o('outside.without')}</Button>}
          </fieldset>
        ) : <p key={l}><Button onClick={() => setText({ ...text, [l]: empty })}>{o(l === 'en' ? 'outside.addEnglish' : 'outside.addChinese')}</Button></p>)}
        <fieldset class="choice">
          <legend><h3>{o('outside.concerns')}</h3></legend>
          {([['everyone', 'outside.everyone'], ['people', 'outside.people'], ['touched', 'outside.touched']] as const).map(([s, label]) => (
            <label class="check" key={s}><input type="radio" name="outside-scope" checked={scope === s} onChange={() => { setScope(s); choose([]); }} /><span>{o(label)}</span></label>
          ))}
          {lists.value?.[scope].map(([id, name]) => (
            <label class="check" key={id}><input type="checkbox" checked={chosen.includes(id)} onChange={(e) => choose(e.currentTarget.checked ? [...chosen, id] : chosen.filter((x) => x !== id))} /><span>{name}</span></label>
          ))}
        </fieldset>
        {act.problem && <ProblemNote problem={act.problem} />}
        <div class="row-end"><Button onClick={onClose}>{o('outside.cancel')}</Button><Button kind="main" type="submit" busy={act.busy}>{o('outside.keep')}</Button></div>
      </form>
    </Dialog>
  );
}

interface Payload { url: string | null; payload: string }

/** What the maker would be told: shown to the byte, then sent if somebody says so. */
export function Maker({ path, title, text }: { path: string; title: string; text: string }) {
  const [shown, set] = useState<Payload | null>(null);
  const act = useAct();
  const look = () => act.run(async () => set(await get<Payload>(path)));
  const send = (p: Payload) =>
    act.run(async () => {
      const said = await call<{ latest?: string; newer?: boolean } | undefined>('POST', path, { payload: p.payload });
      toast(said?.latest ? o(said.newer ? 'outside.newer' : 'outside.newest', { version: said.latest }) : o('outside.sent'));
    }).then(async () => set(await get<Payload>(path).catch((e: unknown) => { throw Problem.of(e); })));
  return (
    <section class="card" aria-label={title}>
      <h2>{title}</h2>
      <p>{text}</p>
      {shown && (
        <>
          <pre tabIndex={0}>{shown.payload}</pre>
          {shown.url === null ? <Note icon="check"><p>{o('outside.noAddress')}</p></Note> : <p class="hint">{o('outside.wouldGo', { url: shown.url })}</p>}
        </>
      )}
      {act.problem && <ProblemNote problem={act.problem} />}
      <div class="row-end">
        <Button busy={act.busy} onClick={() => void look()}>{o('outside.look')}</Button>
        {shown?.url && <Button kind="main" busy={act.busy} onClick={() => void send(shown)}>{o('outside.sendThis')}</Button>}
      </div>
    </section>
  );
}

import { useEffect, useRef, useState } from 'preact/hooks';
import { call, get, Problem } from '../api';
import { dateTime, table } from '../i18n';
import { href } from '../route';
import { session } from '../session';
import { memory } from '../store';
import { queue } from '../upload/queue';
import { shelf } from '../upload/shelf';
import { Button, Dialog, Empty, Field, Head, Note, ProblemNote, say, Show, useAct, useLoad } from '../ui';
import en from './en.json';
import zh from './zh.json';

const m = table(en, zh);

type Detail = 'email' | 'phone' | 'nickname' | 'gender' | 'city';
const details: Detail[] = ['email', 'phone', 'nickname', 'gender', 'city'];
const genders = ['female', 'male', 'other'] as const;

interface Profile {
  details: { detail: Detail; masked: string | null; changed: string }[];
  avatar: boolean;
  allowed: boolean;
}

/** Fetched when it is wanted: it is no part of a first visit. */
export default function MePage() {
  return (
    <>
      <Head title={m('title')} text={m('text')} />
      <ProfileCard />
      <SignIns />
      <Usage />
      <Cookies />
    </>
  );
}

const genderWord = (v: string) => (genders.includes(v as (typeof genders)[number]) ? m(v as (typeof genders)[number]) : v);

function ProfileCard() {
  const profile = useLoad(() => get<Profile>('/v1/me/profile'), []);
  const [plain, reveal] = useState<Partial<Record<Detail, string>> | null>(null);
  const [edited, edit] = useState<Detail | null>(null);
  const act = useAct();
  const show = () => act.run(async () => reveal(await call<Record<Detail, string>>('POST', '/v1/me/profile/reveal', {})));
  const changed = () => {
    reveal(null);
    profile.reload();
  };
  const remove = (d: Detail) =>
    act.run(async () => {
      await call('DELETE', '/v1/me/profile/' + d);
      say(m('deleted'));
      changed();
    });
  return (
    <section class="card me-profile">
      <h2>{m('profile')}</h2>
      <p>{m('profileText')}</p>
      {act.problem && <ProblemNote problem={act.problem} />}
      <Show of={profile}>
        {(p) => (
          <>
            {!p.allowed && <Note icon="consents">{m('off')} <a href={href('consents', 'profile_details')}>{m('toConsents')}</a></Note>}
            <Picture has={p.avatar} allowed={p.allowed} changed={changed} />
            <ul class="lines">
              {details.map((d) => {
                const told = p.details.find((x) => x.detail === d);
                const value = plain?.[d];
                return (
                  <li key={d}>
                    <span class="line-main">
                      <strong>{m(d)}</strong>
                      <small>{!told ? m('notTold') : told.masked === null ? m('lost') : value === undefined ? told.masked : d === 'gender' ? genderWord(value) : value}</small>
                    </span>
                    <span class="line-acts">
                      {p.allowed && <Button kind="quiet" aria-label={m('changeOne', { name: m(d) })} onClick={() => edit(d)}>{m('change')}</Button>}
                      {told && <Button kind="quiet" aria-label={m('deleteOne', { name: m(d) })} onClick={() => void remove(d)}>{m('delete')}</Button>}
                    </span>
                  </li>
                );
              })}
            </ul>
            {p.details.length > 0 && (
              <div class="row-end">
                <span class="hint">{m('showHint')}</span>
                <Button busy={act.busy} onClick={() => (plain ? reveal(null) : void show())}>{m(plain ? 'hide' : 'show')}</Button>
              </div>
            )}
          </>
        )}
      </Show>
      {edited && <Edit of={edited} now={plain?.[edited] ?? ''} onClose={() => edit(null)} onDone={() => { edit(null); changed(); }} />}
    </section>
  );
}

function Edit({ of, now, onClose, onDone }: { of: Detail; now: string; onClose: () => void; onDone: () => void }) {
  const [value, set] = useState(now);
  const act = useAct();
  const submit = async () => {
    const done = await act.run(async () => {
      await call('PUT', '/v1/me/profile/' + of, { value });
      say(m('kept'));
    });
    if (done) onDone();
  };
  return (
    <Dialog title={m('changeOne', { name: m(of) })} onClose={onClose}>
      <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        {of === 'gender' ? (
          <fieldset class="field">
            <legend>{m('gender')}</legend>
            {genders.map((g) => (
              <label class="check"><input type="radio" name="gender" required checked={value === g} onChange={() => set(g)} /><span>{m(g)}</span></label>
            ))}
          </fieldset>
        ) : (
          <Field label={m(of)} value={value} onInput={set} required maxLength={254} autocomplete={{ email: 'email', phone: 'tel', nickname: 'nickname', city: 'address-level2' }[of]} spellcheck={false} />
        )}
        {act.problem && <ProblemNote problem={act.problem} />}
        <div class="row-end"><Button onClick={onClose}>{m('cancel')}</Button><Button kind="main" type="submit" busy={act.busy}>{m('save')}</Button></div>
      </form>
    </Dialog>
  );
}

/** Draws a picture of any size as one that the box takes, which also drops its metadata before it leaves the browser. */
async function shrink(file: File): Promise<Blob> {
  const picture = await createImageBitmap(file);
  const scale = Math.min(1, 512 / Math.max(picture.width, picture.height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  canvas.getContext('2d')!.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return new Promise((ok, fail) => canvas.toBlob((b) => (b ? ok(b) : fail(new Error('no picture'))), 'image/jpeg', 0.9));
}

function Picture({ has, allowed, changed }: { has: boolean; allowed: boolean; changed: () => void }) {
  const [url, setURL] = useState('');
  const [turn, again] = useState(0);
  const [bad, setBad] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const act = useAct();
  useEffect(() => {
    if (!has) return setURL('');
    let made = '';
    void fetch('/v1/me/profile/avatar').then(async (r) => {
      if (r.ok) setURL((made = URL.createObjectURL(await r.blob())));
    }).catch(() => undefined);
    return () => URL.revokeObjectURL(made);
  }, [has, turn]);
  const choose = (file: File | undefined) => {
    if (!file) return;
    void act.run(async () => {
      setBad(false);
      const small = await shrink(file).catch(() => null);
      if (!small) return setBad(true);
      const r = await fetch('/v1/me/profile/avatar', { method: 'PUT', body: small });
      if (!r.ok) throw new Problem(r.status, (await r.json()) as Record<string, unknown>);
      say(m('kept'));
      again((n) => n + 1);
      changed();
    });
  };
  const remove = () =>
    act.run(async () => {
      await call('DELETE', '/v1/me/profile/avatar');
      say(m('deleted'));
      changed();
    });
  if (!has && !allowed) return null;
  return (
    <div class="row">
      {url && <img class="thumb" src={url} alt={m('pictureAlt')} width={64} height={64} />}
      <input ref={input} type="file" accept="image/*" hidden aria-label={m('choosePicture')} onChange={(e) => { choose(e.currentTarget.files?.[0]); e.currentTarget.value = ''; }} />
      {allowed && <Button busy={act.busy} onClick={() => input.current?.click()}>{m('choosePicture')}</Button>}
      {has && <Button kind="quiet" aria-label={m('deleteOne', { name: m('picture') })} onClick={() => void remove()}>{m('delete')}</Button>}
      {bad && <p class="hint" role="alert">{m('noPicture')}</p>}
      {act.problem && <ProblemNote problem={act.problem} />}
    </div>
  );
}

interface Entry { id: string; time: string; address: string | null; name?: string | null; outcome?: 'signed_in' | 'refused' | 'code_refused'; page?: string; browser?: string; language?: string }

/** A log whose addresses are masked until one asks for them. */
function useLog(path: string, of: 'sign_ins' | 'uses') {
  const [list, set] = useState<Entry[] | null>(null);
  const [next, setNext] = useState<string | null>(null);
  const [whole, show] = useState(false);
  const act = useAct();
  const read = (before: string | null, plain: boolean) =>
    act.run(async () => {
      const where = `${path}${plain ? '/reveal' : ''}?limit=20${before ? '&before=' + before : ''}`;
      const page = await call<Record<'sign_ins' | 'uses', Entry[]> & { next: string | null }>(plain ? 'POST' : 'GET', where);
      set((have) => (before ? [...(have ?? []), ...page[of]] : page[of]));
      setNext(page.next);
      show(plain);
    });
  useEffect(() => void read(null, false), []);
  return { list, next, whole, act, more: () => void read(next, whole), reveal: () => void read(null, true), reload: () => void read(null, false) };
}

function Log({ log, line }: { log: ReturnType<typeof useLog>; line: (e: Entry) => { title: string; text: string } }) {
  return (
    <>
      {log.act.problem && <ProblemNote problem={log.act.problem} />}
      <ul class="lines">
        {log.list?.map((e) => (
          <li key={e.id}>
            <span class="line-main"><strong>{line(e).title}</strong><small>{line(e).text}</small></span>
          </li>
        ))}
      </ul>
      <div class="row-end">
        {log.next && <Button busy={log.act.busy} onClick={log.more}>{m('more')}</Button>}
        {!log.whole && log.list && log.list.length > 0 && <Button busy={log.act.busy} onClick={log.reveal}>{m('showAddresses')}</Button>}
      </div>
    </>
  );
}

const parts = (...words: (string | null | undefined)[]) => words.filter(Boolean).join(' · ');

function SignIns() {
  const log = useLog('/v1/me/sign-ins', 'sign_ins');
  return (
    <section class="card me-signins">
      <h2>{m('signIns')}</h2>
      <p>{m('signInsText')}</p>
      <Log log={log} line={(e) => ({ title: m(e.outcome ?? 'refused'), text: parts(dateTime(e.time), e.address ?? m('addressUnknown'), e.name) })} />
    </section>
  );
}

function Usage() {
  const log = useLog('/v1/me/usage', 'uses');
  const remove = async () => {
    if (await log.act.run(() => call('DELETE', '/v1/me/usage'))) log.reload();
  };
  return (
    <section class="card me-usage">
      <h2>{m('usage')}</h2>
      <p>{m('usageText')}</p>
      {log.list?.length === 0 && <Empty icon="receipt" title={m('usageNone')} />}
      <Log log={log} line={(e) => ({ title: e.page ?? '', text: parts(dateTime(e.time), e.address, e.language, e.browser) })} />
      {log.list && log.list.length > 0 && <div class="row-end"><Button onClick={() => void remove()}>{m('usageDelete')}</Button></div>}
    </section>
  );
}

/** Everything that the page keeps in the browser: a test compares this list with a browser that was used. */
const keeps = [
  { name: '__Host-yunbox', kind: 'kind.cookie', why: 'for.session', ends: 'ends.session' },
  { name: '__Host-yunbox-flow', kind: 'kind.cookie', why: 'for.flow', ends: 'ends.flow' },
  { name: '__Host-yunbox-elsewhere', kind: 'kind.cookie', why: 'for.elsewhere', ends: 'ends.flow' },
  { name: 'yunbox.lang', kind: 'kind.local', why: 'for.lang', ends: 'ends.kept' },
  { name: 'yunbox.device', kind: 'kind.local', why: 'for.device', ends: 'ends.kept' },
  { name: 'yunbox.folder', kind: 'kind.local', why: 'for.folder', ends: 'ends.kept' },
  { name: 'yunbox', kind: 'kind.database', why: 'for.database', ends: 'ends.database' },
] as const;

function Cookies() {
  const [, draw] = useState({});
  const act = useAct();
  const remove = () =>
    act.run(async () => {
      for (const k of keeps) if (k.kind === 'kind.local') memory.set(k.name, null);
      await queue.clear();
      await shelf.empty();
      queue.begin(session.value.me!.id);
      say(m('deleted'));
      draw({});
    });
  // No script can read a cookie: that of the session is there as long as this page is, those
  // of a sign-in elsewhere are gone by then.
  const here = (k: (typeof keeps)[number]) => (k.kind === 'kind.local' ? memory.get(k.name) !== null : k.ends !== 'ends.flow');
  return (
    <section class="card me-cookies">
      <h2>{m('cookies')}</h2>
      <p>{m('cookiesText')}</p>
      <ul class="lines">
        {keeps.map((k) => (
          <li key={k.name} data-keeps={k.name}>
            <span class="line-main">
              <strong><code>{k.name}</code></strong>
              <small>{parts(m(k.kind), m(here(k) ? 'here' : 'notHere'))}</small>
              <small>{m(k.why)} {m(k.ends)}</small>
            </span>
          </li>
        ))}
      </ul>
      {act.problem && <ProblemNote problem={act.problem} />}
      <div class="row-end">
        <span class="hint">{m('cookiesHint')}</span>
        <Button busy={act.busy} onClick={() => void remove()}>{m('cookiesDelete')}</Button>
      </div>
    </section>
  );
}

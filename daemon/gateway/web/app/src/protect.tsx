import { useState } from 'preact/hooks';
import { call, get, type Notice } from './api';
import { CodeField } from './code';
import { Icon } from './icons';
import { date, dateTime, t, word, type Key } from './i18n';
import { notices, readNotices, session } from './session';
import { Store, useStore } from './store';
import { Button, copy, Dialog, IconButton, Note, ProblemNote, save, say, Show, useAct, useLoad } from './ui';

interface Factor {
  on: boolean;
  since: string | null;
  recovery_codes: number;
}
interface Enrolment {
  secret: string;
  uri: string;
  qr: string[];
}

/** Changes when something happened elsewhere that the cards of the account show. */
const useNews = () => useStore(notices).at(-1)?.id;

/** The second factor: whether it is on, how to set it up, and what to do without the phone. */
export function Protection() {
  const factor = useLoad(() => get<Factor>('/v1/me/second-factor'), [useNews()]);
  const [enrolment, enrol] = useState<Enrolment | null>(null);
  const [codes, show] = useState<string[] | null>(null);
  const [leaving, leave] = useState(false);
  const act = useAct();
  const begin = () => act.run(async () => enrol(await call<Enrolment>('POST', '/v1/me/second-factor')));
  const renew = () => act.run(async () => show((await call<{ recovery_codes: string[] }>('POST', '/v1/me/second-factor/recovery-codes')).recovery_codes));
  return (
    <section class="card" aria-labelledby="protect">
      <div class="card-head">
        <h2 id="protect">{t('protect.title')}</h2>
        {factor.value && <span class={factor.value.on ? 'tag good' : 'tag'}>{t(factor.value.on ? 'protect.on' : 'protect.off')}</span>}
      </div>
      <p>{t('protect.text')}</p>
      <Show of={factor}>
        {(f) => f.on ? (
          <>
            {f.recovery_codes <= 3 && <Note kind="warn" icon="warn">{t('protect.fewCodes', { n: f.recovery_codes })}</Note>}
            <dl class="facts">
              <div><dt>{t('protect.app')}</dt><dd>{t('devices.since', { time: date(f.since!) })}</dd></div>
              <div><dt>{t('protect.codes')}</dt><dd>{t('protect.codesLeft', { n: f.recovery_codes })}</dd></div>
            </dl>
            <div class="row-start">
              <Button busy={act.busy} onClick={() => void renew()}>{t('protect.newCodes')}</Button>
              <Button busy={act.busy} onClick={() => void begin()}>{t('protect.move')}</Button>
              <Button kind="quiet" onClick={() => { act.clear(); leave(true); }}>{t('protect.remove')}</Button>
            </div>
          </>
        ) : (
          <div class="row-start"><Button kind="main" icon="consents" busy={act.busy} onClick={() => void begin()}>{t('protect.begin')}</Button></div>
        )}
      </Show>
      {act.problem && !leaving && <ProblemNote problem={act.problem} />}
      {enrolment && <Enrol of={enrolment} onClose={() => enrol(null)} onDone={(c) => { enrol(null); show(c); factor.reload(); sessionsEnded.set(sessionsEnded.value + 1); }} />}
      {codes && <Codes codes={codes} onClose={() => { show(null); factor.reload(); }} />}
      {leaving && (
        <Dialog title={t('protect.sure')} onClose={() => leave(false)}>
          <p>{t('protect.sureText')}</p>
          {act.problem && <ProblemNote problem={act.problem} />}
          <div class="row-end">
            <Button onClick={() => leave(false)}>{t('cancel')}</Button>
            <Button kind="danger" busy={act.busy} onClick={async () => {
              if (await act.run(() => call('DELETE', '/v1/me/second-factor'))) {
                leave(false);
                factor.reload();
                say(t('protect.removed'));
              }
            }}>{t('protect.remove')}</Button>
          </div>
        </Dialog>
      )}
    </section>
  );
}

function Enrol({ of, onClose, onDone }: { of: Enrolment; onClose: () => void; onDone: (codes: string[]) => void }) {
  const [code, setCode] = useState('');
  const act = useAct();
  const submit = () =>
    act.run(async () => onDone((await call<{ recovery_codes: string[] }>('PUT', '/v1/me/second-factor', { otp: code }, true)).recovery_codes));
  return (
    <Dialog title={t('enrol.title')} onClose={onClose} wide>
      <div class="enrol">
        <QR rows={of.qr} />
        <div class="enrol-text">
          <h3><span class="step-n" aria-hidden="true">1</span>{t('enrol.scan')}</h3>
          <p>{t('enrol.scanText')}</p>
          <p class="hint">{t('enrol.typed')}</p>
          <div class="secret"><code>{of.secret.match(/.{1,4}/g)!.join(' ')}</code><IconButton icon="copy" label={t('copy')} onClick={() => void copy(of.secret)} /></div>
          <p class="hint"><a href={of.uri}>{t('enrol.here')}</a></p>
        </div>
      </div>
      <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <h3><span class="step-n" aria-hidden="true">2</span>{t('enrol.confirm')}</h3>
        <CodeField value={code} onInput={setCode} only />
        {act.problem && <ProblemNote problem={act.problem} />}
        <p class="hint">{t('enrol.others')}</p>
        <div class="row-end"><Button onClick={onClose}>{t('cancel')}</Button><Button kind="main" type="submit" busy={act.busy}>{t('enrol.do')}</Button></div>
      </form>
    </Dialog>
  );
}

/** A QR code as the box drew it, on white whatever the page's colours are: not every app reads light on dark. */
export function QR({ rows }: { rows: string[] }) {
  const n = rows.length, margin = 4;
  let path = '';
  rows.forEach((row, y) => {
    for (const m of row.matchAll(/#+/g)) path += `M${m.index! + margin} ${y + margin}h${m[0].length}v1h-${m[0].length}z`;
  });
  return (
    <svg class="qr" viewBox={`0 0 ${n + 2 * margin} ${n + 2 * margin}`} role="img" aria-label={t('enrol.qr')} shape-rendering="crispEdges">
      <rect width="100%" height="100%" fill="#fff" />
      <path d={path} fill="#000" />
    </svg>
  );
}

/** The recovery codes, this once: to be copied, printed or kept as a file. */
function Codes({ codes, onClose }: { codes: string[]; onClose: () => void }) {
  const { box, me } = session.value;
  const text = `${box!.name} · ${me!.username}\n${t('codes.title')}\n\n${codes.join('\n')}\n`;
  return (
    <Dialog title={t('codes.title')} onClose={onClose}>
      <Note kind="warn" icon="warn">{t('codes.once')}</Note>
      <div class="sheet">
        <p class="sheet-head">{box!.name} · {me!.username} · {date(new Date().toISOString())}</p>
        <ol class="codes">{codes.map((c) => <li><code>{c}</code></li>)}</ol>
        <p class="hint">{t('codes.text')}</p>
      </div>
      <div class="row-start">
        <Button icon="copy" onClick={() => void copy(text)}>{t('copy')}</Button>
        <Button icon="receipt" onClick={() => print()}>{t('codes.print')}</Button>
        <Button icon="download" onClick={() => save(text, 'text/plain', 'yunbox-recovery-codes.txt')}>{t('codes.save')}</Button>
      </div>
      <div class="row-end"><Button kind="main" onClick={onClose}>{t('tokens.kept')}</Button></div>
    </Dialog>
  );
}

interface Open {
  id: string;
  name: string | null;
  kind: string | null;
  created: string;
  last_seen: string;
  current: boolean;
}

/** Counts what ends sessions by itself: a second factor that is set up, another password. */
export const sessionsEnded = new Store(0);

/** Where the person is signed in, and a way to sign out there. */
export function Sessions() {
  const turn = useStore(sessionsEnded);
  const sessions = useLoad(async () => (await get<{ sessions: Open[] }>('/v1/sessions')).sessions, [turn, useNews()]);
  const act = useAct();
  const end = (s: Open) =>
    act.run(async () => {
      await call('DELETE', `/v1/sessions/${s.id}`);
      sessions.reload();
      say(t('sessions.ended', { n: 1 }));
    });
  const endOthers = () =>
    act.run(async () => {
      const { ended } = await call<{ ended: number }>('DELETE', '/v1/sessions');
      sessions.reload();
      say(t('sessions.ended', { n: ended }));
    });
  return (
    <section class="card" aria-labelledby="sessions">
      <div class="card-head">
        <h2 id="sessions">{t('sessions.title')}</h2>
        {(sessions.value?.length ?? 0) > 1 && <Button busy={act.busy} onClick={() => void endOthers()}>{t('sessions.endOthers')}</Button>}
      </div>
      <p>{t('sessions.text')}</p>
      {act.problem && <ProblemNote problem={act.problem} />}
      <Show of={sessions}>
        {(list) => (
          <ul class="lines">
            {[...list].sort((a, b) => Number(b.current) - Number(a.current)).map((s) => (
              <li key={s.id}>
                <span class="thumb"><Icon name="device" /></span>
                <span class="line-main">
                  <strong>{s.name ?? t('sessions.unnamed')} {s.current && <span class="tag good">{t('sessions.this')}</span>}</strong>
                  <small>{s.kind && `${word('kind', s.kind)} · `}{t('devices.since', { time: dateTime(s.created) })} · {t('devices.seen', { time: dateTime(s.last_seen) })}</small>
                </span>
                {!s.current && <span class="line-acts"><Button kind="quiet" aria-label={t('sessions.endOne', { name: s.name ?? t('sessions.unnamed') })} onClick={() => void end(s)}>{t('sessions.end')}</Button></span>}
              </li>
            ))}
          </ul>
        )}
      </Show>
    </section>
  );
}

const said: Record<string, Key> = {
  device: 'notices.device', factor_on: 'notices.factorOn', factor_off: 'notices.factorOff', factor_reset: 'notices.factorReset',
  recovery_code: 'notices.recovery', code_guessing: 'notices.guessing', password: 'notices.password', password_set: 'notices.passwordSet', policy: 'revision.notice',
  guardian_asked: 'guardian.asked', guardian_new: 'guardian.new', guardian_ends: 'guardian.ends', guardian_gone: 'guardian.gone',
  ward_asks: 'guardian.asks', ward_answer: 'guardian.answer', ward_says_no: 'guardian.saysNo', ward_erasure: 'guardian.erasure', ward_erased: 'guardian.erased',
  of_age: 'guardian.ofAge', ward_of_age: 'guardian.wardOfAge',
  cancellation: 'rights.nCancelled', removal: 'rights.nRemoved', cancellation_no: 'rights.nKept', handover: 'rights.nOffer', handover_yes: 'rights.nTaken',
  handover_no: 'rights.nRefused', handover_done: 'rights.nHanded', owner_offer: 'rights.nOwner', owner_no: 'rights.nOwner', owner_new: 'rights.nOwner', request: 'rights.nRequest', request_answer: 'rights.nAnswered',
  incident: 'notices.incident', update_kept: 'notices.updateKept', update_failed: 'notices.updateFailed', linked: 'notices.linked', unlinked: 'notices.unlinked',
};

/** How many notices are shown, the newest. */
const SHOWN = 8;

/** What happened on the account elsewhere, until the person has seen it. */
export function Notices() {
  const list = useStore(notices);
  const act = useAct();
  if (list.length === 0) return null;
  const seen = () =>
    act.run(async () => {
      await call('DELETE', '/v1/me/notices?through=' + list[list.length - 1]!.id);
      await readNotices();
    });
  const text = (n: Notice) => t(said[n.kind] ?? 'notices.other', { name: n.name ?? t('sessions.unnamed') });
  return (
    <section class="card wanted" aria-labelledby="notices">
      <div class="card-head">
        <h2 id="notices">{t('notices.title')}</h2>
        <Button busy={act.busy} icon="check" onClick={() => void seen()}>{t('notices.seen')}</Button>
      </div>
      <ul class="lines">
        {list.slice(-SHOWN).reverse().map((n) => (
          <li key={n.id}>
            <span class="thumb"><Icon name={n.kind === 'code_guessing' || n.kind === 'factor_reset' || n.kind === 'password_set' ? 'warn' : 'consents'} /></span>
            <span class="line-main"><strong>{text(n)}</strong><small>{dateTime(n.time)}</small></span>
          </li>
        ))}
      </ul>
      {act.problem && <ProblemNote problem={act.problem} />}
      <p class="hint">{list.length > SHOWN && `${t('notices.more', { n: list.length - SHOWN })} `}{t('notices.hint')}</p>
    </section>
  );
}

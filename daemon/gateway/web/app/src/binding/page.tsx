import { useState } from 'preact/hooks';
import { call } from '../api';
import { dateTime, t } from '../i18n';
import { PasswordHint } from '../password';
import { QR } from '../protect';
import { href, route } from '../route';
import { isAdmin, session, signedIn, thisDevice } from '../session';
import { Words } from '../signin';
import { useStore } from '../store';
import { Button, copy, Field, Head, IconButton, Note, Password, ProblemNote, say, useAct } from '../ui';
import { b } from './texts';

interface Invitation { uri: string; qr: string[]; secret: string; expires: string }

/** Inviting people, and giving the box back. */
export default function BindingPage() {
  const me = session.value.me!;
  return (
    <>
      <Head title={b('title')} text={b('text')} />
      {isAdmin(me) && <Invite owner={me.role === 'owner'} />}
      {me.role === 'owner' && <Reset />}
    </>
  );
}

function Invite({ owner }: { owner: boolean }) {
  const [role, setRole] = useState('member');
  const [made, make] = useState<Invitation | null>(null);
  const act = useAct();
  const address = made && `${location.origin}/${href('join', made.secret)}`;
  return (
    <section class="card">
      <h2>{b('invite')}</h2>
      <p>{b('inviteText')}</p>
      {owner && !made && (
        <fieldset class="choice">
          <legend>{t('people.role')}</legend>
          {(['member', 'admin'] as const).map((r) => (
            <label class="check">
              <input type="radio" name="invited" value={r} checked={role === r} onChange={() => setRole(r)} />
              <span>{b(r)}</span>
            </label>
          ))}
        </fieldset>
      )}
      {act.problem && <ProblemNote problem={act.problem} />}
      {made && address ? (
        <>
          <QR rows={made.qr} />
          <p><strong>{b('inviteUntil', { time: dateTime(made.expires) })}</strong></p>
          <p>{b('inviteApp')}</p>
          <div class="secret"><code>{made.uri}</code><IconButton icon="copy" label={t('copy')} onClick={() => void copy(made.uri)} /></div>
          <p>{b('inviteBrowser')}</p>
          <div class="secret"><code>{address}</code><IconButton icon="copy" label={t('copy')} onClick={() => void copy(address)} /></div>
          <Words />
          <div class="row-end"><Button busy={act.busy} onClick={async () => {
            if (await act.run(() => call('DELETE', '/v1/invitations'))) {
              make(null);
              say(b('inviteTaken'));
            }
          }}>{b('inviteBack')}</Button></div>
        </>
      ) : (
        <div class="row-end"><Button kind="main" busy={act.busy} onClick={() => void act.run(async () => make(await call<Invitation>('POST', '/v1/invitations', { role })))}>{b('inviteDo')}</Button></div>
      )}
      <p class="hint">{b('child')}</p>
    </section>
  );
}

function Reset() {
  const name = session.value.box!.name;
  const [typed, type] = useState('');
  const [copies, begun] = useState<string[] | null>(null);
  const act = useAct();
  const submit = () =>
    act.run(async () => begun((await call<{ second_copies: string[] }>('POST', '/v1/factory-reset', { confirm: typed })).second_copies));
  return (
    <section class="card">
      <h2>{b('reset')}</h2>
      {copies ? (
        <Note>
          <strong>{b('resetBegun')}</strong>
          <p>{b('resetBegunText')}</p>
          {copies.length > 0 && <p>{b('resetCopies', { names: copies.join(', ') })}</p>}
        </Note>
      ) : (
        <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
          <p>{b('resetText')}</p>
          <p>{b('resetStays')}</p>
          <p>{b('resetDisk')}</p>
          <p><a href={href('data')}>{b('resetExport')}</a></p>
          <Field label={b('resetName', { name })} value={typed} onInput={type} autocomplete="off" autocapitalize="off" spellcheck={false} required />
          {act.problem && <ProblemNote problem={act.problem} />}
          <div class="row-end"><Button kind="danger" type="submit" busy={act.busy}>{b('resetDo')}</Button></div>
        </form>
      )}
    </section>
  );
}

/** What an invitation's address opens, for whoever has no account yet. */
export function Join() {
  const secret = useStore(route).rest;
  const box = session.value.box!;
  const [username, setUsername] = useState('');
  const [password, setPassword] = useState('');
  const act = useAct();
  const submit = () =>
    act.run(async () => {
      const answer = await call<{ device: string | null }>('POST', '/v1/join', { secret, username: username.trim(), password, device: thisDevice() }, true);
      location.hash = '#/files'; // the secret is spent; the address need not keep it
      await signedIn(answer, true);
    });
  if (!/^[\w-]{22}$/.test(secret)) return <Note>{b('joinNo')}</Note>;
  return (
    <div class="card narrow">
      <Head title={b('join')} text={b('joinText', { box: box.name })} />
      <p>{b('joinKey')}</p>
      <Words />
      <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <Field label={t('username')} value={username} onInput={setUsername} name="username" autocomplete="username" autocapitalize="off" spellcheck={false} required />
        <Password label={t('password')} value={password} onInput={setPassword} fresh hint={<PasswordHint password={password} username={username} />} />
        {act.problem && <ProblemNote problem={act.problem} />}
        <Button kind="main" type="submit" busy={act.busy} class="full">{b('joinDo')}</Button>
      </form>
    </div>
  );
}

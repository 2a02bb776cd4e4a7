import { useEffect, useState } from 'preact/hooks';
import { call, get, type Device, type Token, type User } from './api';
import { History } from './history';
import { Icon } from './icons';
import { date, dateTime, size, t, word, type Key } from './i18n';
import { DataCard } from './mine';
import { PasswordHint } from './password';
import { href } from './route';
import { Notices, Protection, Sessions, sessionsEnded } from './protect';
import { isAdmin, readNotices, refresh, session } from './session';
import { Words } from './signin';
import { Button, copy, Dialog, Empty, Field, Head, IconButton, Note, Password, ProblemNote, say, Show, useAct, useLoad } from './ui';

export function AccountPage() {
  const { me, box } = session.value;
  useEffect(() => void readNotices(), []);
  return (
    <>
      <Head title={t('account.title')} text={t('account.text', { name: me!.username, role: word('role', me!.role) })} />
      <Notices />
      <Protection />
      <PasswordCard />
      <Sessions />
      <Devices />
      <Deletions />
      <Tokens />
      <DataCard />
      <OutsideCard />
      {isAdmin(me!) && <People />}
      <section class="card">
        <h2>{t('account.box')}</h2>
        <p>{t('account.boxText')}</p>
        <Words />
        <dl class="facts">
          <div><dt>{t('account.id')}</dt><dd><code>{box!.id}</code></dd></div>
          <div><dt>{t('account.version')}</dt><dd>{box!.version}</dd></div>
        </dl>
        {isAdmin(me!) && <p><a class="button plain" href={href('binding')}><Icon name="account" /><span>{t('binding.card')}</span></a></p>}
        <p class="hint"><a href="/ca.crt" download="yunbox-ca.crt">{t('account.ca')}</a> · <a href={LICENSES_URL}>{t('account.licenses')}</a></p>
      </section>
    </>
  );
}

/** The way to what concerns the world outside of the box. */
function OutsideCard() {
  return (
    <section class="card">
      <h2>{t('outside.title')}</h2>
      <p>{t('outside.card')}</p>
      <p><a class="button plain" href={href('outside')}><Icon name="out" /><span>{t('data.open')}</span></a></p>
    </section>
  );
}

function PasswordCard() {
  const [old, setOld] = useState('');
  const [fresh, setFresh] = useState('');
  const act = useAct();
  const name = session.value.me!.username;
  const submit = () =>
    act.run(async () => {
      // A wrong old password is no reason to sign the page out.
      await call('PUT', '/v1/me/password', { old, new: fresh }, true);
      setOld('');
      setFresh('');
      sessionsEnded.set(sessionsEnded.value + 1);
      say(t('password.changed'));
    });
  return (
    <section class="card">
      <h2>{t('password.change')}</h2>
      <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <input type="text" name="username" autocomplete="username" value={name} hidden readOnly />
        <div class="pair">
          <Password label={t('password.old')} value={old} onInput={setOld} />
          <Password label={t('password.new')} value={fresh} onInput={setFresh} fresh hint={<PasswordHint password={fresh} username={name} />} />
        </div>
        {act.problem && <ProblemNote problem={act.problem} />}
        <div class="row-end"><Button kind="main" type="submit" busy={act.busy}>{t('password.change')}</Button></div>
      </form>
    </section>
  );
}

function Devices() {
  const devices = useLoad(async () => (await get<{ devices: Device[] | null }>('/v1/devices')).devices ?? [], []);
  const [renamed, rename] = useState<Device | null>(null);
  const [gone, remove] = useState<Device | null>(null);
  const [shown, show] = useState<Device | null>(null);
  const [name, setName] = useState('');
  const act = useAct();
  return (
    <section class="card">
      <h2>{t('devices.title')}</h2>
      <p>{t('devices.text')}</p>
      <Show of={devices}>
        {(list) => list.length === 0 ? <Empty icon="device" title={t('devices.none')} /> : (
          <ul class="lines">
            {list.map((d) => (
              <li>
                <span class="thumb"><Icon name="device" /></span>
                <span class="line-main">
                  <strong>{d.name}</strong>
                  <small>{word('kind', d.kind)} · {d.last_seen ? t('devices.seen', { time: dateTime(d.last_seen) }) : t('devices.since', { time: date(d.created) })}</small>
                  {(d.model || d.system || d.app) && <small>{[d.model, d.system, d.app].filter(Boolean).join(' · ')}</small>}
                </span>
                <span class="line-acts">
                  <IconButton icon="receipt" label={t('devices.historyOne', { name: d.name })} onClick={() => show(d)} />
                  <Button kind="quiet" aria-label={t('devices.renameOne', { name: d.name })} onClick={() => { setName(d.name); act.clear(); rename(d); }}>{t('devices.rename')}</Button>
                  <IconButton icon="close" label={t('devices.removeOne', { name: d.name })} onClick={() => { act.clear(); remove(d); }} />
                </span>
              </li>
            ))}
          </ul>
        )}
      </Show>
      {shown && (
        <Dialog title={t('devices.historyOne', { name: shown.name })} onClose={() => show(null)} wide>
          <p class="hint">{t('devices.historyText')}</p>
          <History device={shown.id} />
        </Dialog>
      )}
      {renamed && (
        <Dialog title={t('devices.rename')} onClose={() => rename(null)}>
          <form onSubmit={async (e) => {
            e.preventDefault();
            if (await act.run(() => call('PATCH', `/v1/devices/${renamed.id}`, { name }))) {
              rename(null);
              devices.reload();
            }
          }}>
            <Field label={t('name')} value={name} onInput={setName} required maxLength={64} />
            {act.problem && <ProblemNote problem={act.problem} />}
            <div class="row-end"><Button onClick={() => rename(null)}>{t('cancel')}</Button><Button kind="main" type="submit" busy={act.busy}>{t('save')}</Button></div>
          </form>
        </Dialog>
      )}
      {gone && (
        <Dialog title={t('devices.sure')} onClose={() => remove(null)}>
          <p>{t('devices.sureText', { name: gone.name })}</p>
          {act.problem && <ProblemNote problem={act.problem} />}
          <div class="row-end">
            <Button onClick={() => remove(null)}>{t('cancel')}</Button>
            <Button kind="danger" busy={act.busy} onClick={async () => {
              if (await act.run(() => call('DELETE', `/v1/devices/${gone.id}`))) {
                remove(null);
                devices.reload();
              }
            }}>{t('devices.remove')}</Button>
          </div>
        </Dialog>
      )}
    </section>
  );
}

/** For how long a backup leaves alone what the person deleted from the box. */
function Deletions() {
  const had = session.value.me!.decline_deleted_days;
  const [days, setDays] = useState(String(had));
  const act = useAct();
  const submit = () =>
    act.run(async () => {
      await call('PATCH', '/v1/me', { decline_deleted_days: Number(days) });
      await refresh();
      say(t('deletions.saved'));
    });
  return (
    <section class="card">
      <h2>{t('deletions.title')}</h2>
      <p>{t('deletions.text')}</p>
      <form class="inline-form" onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <Field label={t('deletions.days')} value={days} onInput={setDays} inputMode="numeric" pattern="[0-9]{1,5}" maxLength={5} required autocomplete="off" />
        <Button type="submit" busy={act.busy}>{t('save')}</Button>
      </form>
      <p class="hint">{t('deletions.hint')}</p>
      {act.problem && <ProblemNote problem={act.problem} />}
    </section>
  );
}

function Tokens() {
  const tokens = useLoad(async () => (await get<{ tokens: Token[] | null }>('/v1/tokens')).tokens ?? [], []);
  const [name, setName] = useState('');
  const [device, setDevice] = useState('');
  const devices = useLoad(async () => (await get<{ devices: Device[] | null }>('/v1/devices')).devices ?? [], []);
  const [made, show] = useState<{ name: string; token: string } | null>(null);
  const act = useAct();
  const create = () =>
    act.run(async () => {
      const { token } = await call<{ token: string }>('POST', '/v1/tokens', { name: name.trim(), scope: 'files', ...(device && { device }) });
      show({ name: name.trim(), token });
      setName('');
      tokens.reload();
    });
  const revoke = (k: Token) =>
    act.run(async () => {
      await call('DELETE', `/v1/tokens/${k.id}`);
      tokens.reload();
      say(t('tokens.revoked', { name: k.name }));
    });
  return (
    <section class="card">
      <h2>{t('tokens.title')}</h2>
      <p>{t('tokens.text')}</p>
      <Show of={tokens}>
        {(list) => list.length === 0 ? <Empty icon="key" title={t('tokens.none')} /> : (
          <ul class="lines">
            {list.map((k) => (
              <li>
                <span class="thumb"><Icon name="key" /></span>
                <span class="line-main">
                  <strong>{k.name}</strong>
                  <small>{k.last_used ? t('tokens.used', { time: dateTime(k.last_used) }) : t('tokens.unused', { time: date(k.created) })}</small>
                </span>
                <span class="line-acts"><Button kind="quiet" aria-label={t('tokens.revokeOne', { name: k.name })} onClick={() => void revoke(k)}>{t('tokens.revoke')}</Button></span>
              </li>
            ))}
          </ul>
        )}
      </Show>
      {act.problem && <ProblemNote problem={act.problem} />}
      <form class="inline-form" onSubmit={(e) => { e.preventDefault(); void create(); }}>
        <Field label={t('tokens.name')} value={name} onInput={setName} required maxLength={64} autocomplete="off" />
        <div class="field">
          <label for="token-device">{t('tokens.backsUp')}</label>
          <select id="token-device" class="input" value={device} onChange={(e) => setDevice(e.currentTarget.value)}>
            <option value="">{t('tokens.drive')}</option>
            {(devices.value ?? []).map((d) => <option value={d.id}>{d.name}</option>)}
          </select>
        </div>
        <Button type="submit" icon="plus" busy={act.busy}>{t('tokens.create')}</Button>
      </form>
      {made && (
        <Dialog title={made.name} onClose={() => show(null)}>
          <Note kind="warn" icon="warn">{t('tokens.once')}</Note>
          <div class="secret"><code>{made.token}</code><IconButton icon="copy" label={t('copy')} onClick={() => void copy(made.token)} /></div>
          <p class="hint">{t('tokens.how', { name: session.value.me!.username })}</p>
          <div class="row-end"><Button kind="main" onClick={() => show(null)}>{t('tokens.kept')}</Button></div>
        </Dialog>
      )}
    </section>
  );
}

function People() {
  const users = useLoad(async () => (await get<{ users: User[] | null }>('/v1/users')).users ?? [], []);
  const [adding, add] = useState(false);
  const [limited, limit] = useState<User | null>(null);
  const [reset, askReset] = useState<User | null>(null);
  const act = useAct();
  const own = session.value.me!.id;
  const toggle = (u: User) =>
    act.run(async () => {
      await call('PATCH', `/v1/users/${u.id}`, { disabled: !u.disabled });
      users.reload();
      say(t(u.disabled ? 'people.enabled' : 'people.disabled', { name: u.username }));
    });
  return (
    <section class="card">
      <div class="card-head">
        <h2>{t('people.title')}</h2>
        <Button icon="plus" onClick={() => add(true)}>{t('people.add')}</Button>
      </div>
      <p>{t('people.text')}</p>
      {act.problem && <ProblemNote problem={act.problem} />}
      <Show of={users}>
        {(list) => (
          <ul class="lines">
            {list.map((u) => (
              <li>
                <span class="thumb"><Icon name="account" /></span>
                <span class="line-main">
                  <strong>{u.username} {u.disabled && <span class="tag">{t('people.isDisabled')}</span>}</strong>
                  <small>{word('role', u.role)} · {t('devices.since', { time: date(u.created) })}{u.quota_bytes !== null && ` · ${t('people.upTo', { size: size(u.quota_bytes) })}`}</small>
                </span>
                <span class="line-acts">
                  {u.second_factor && u.role !== 'owner' && u.id !== own && <Button kind="quiet" aria-label={t('people.resetOne', { name: u.username })} onClick={() => { act.clear(); askReset(u); }}>{t('people.reset')}</Button>}
                  <Button kind="quiet" aria-label={t('people.shareOne', { name: u.username })} onClick={() => limit(u)}>{t('people.share')}</Button>
                  {u.id !== own && u.role !== 'owner' && <Button kind="quiet" aria-label={t(u.disabled ? 'people.enableOne' : 'people.disableOne', { name: u.username })} onClick={() => void toggle(u)}>{t(u.disabled ? 'people.enable' : 'people.disable')}</Button>}
                </span>
              </li>
            ))}
          </ul>
        )}
      </Show>
      {limited && <Share user={limited} onClose={() => limit(null)} onSet={users.reload} />}
      {reset && (
        <Dialog title={t('people.resetOne', { name: reset.username })} onClose={() => askReset(null)}>
          <p>{t('people.resetText', { name: reset.username })}</p>
          {act.problem && <ProblemNote problem={act.problem} />}
          <div class="row-end">
            <Button onClick={() => askReset(null)}>{t('cancel')}</Button>
            <Button kind="danger" busy={act.busy} onClick={async () => {
              if (await act.run(() => call('PATCH', `/v1/users/${reset.id}`, { second_factor: false }))) {
                askReset(null);
                users.reload();
                say(t('people.resetDone', { name: reset.username }));
              }
            }}>{t('people.reset')}</Button>
          </div>
        </Dialog>
      )}
      {adding && <AddPerson onClose={() => add(false)} onAdded={users.reload} />}
    </section>
  );
}

/** How much of the box a person may fill. */
function Share({ user, onClose, onSet }: { user: User; onClose: () => void; onSet: () => void }) {
  const [gigabytes, setGigabytes] = useState(user.quota_bytes === null ? '' : String(user.quota_bytes / 1e9));
  const act = useAct();
  const submit = async () => {
    const n = Number(gigabytes.replace(',', '.'));
    const quota = gigabytes.trim() === '' ? null : Math.round(n * 1e9);
    if (await act.run(() => call('PATCH', `/v1/users/${user.id}`, { quota_bytes: quota }))) {
      onSet();
      onClose();
    }
  };
  return (
    <Dialog title={t('people.shareOne', { name: user.username })} onClose={onClose}>
      <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <Field label={t('people.gigabytes')} hint={t('people.shareText')} value={gigabytes} onInput={setGigabytes} inputMode="decimal" pattern="[0-9]*[.,]?[0-9]*" autocomplete="off" />
        {act.problem && <ProblemNote problem={act.problem} />}
        <div class="row-end"><Button onClick={onClose}>{t('cancel')}</Button><Button kind="main" type="submit" busy={act.busy}>{t('save')}</Button></div>
      </form>
    </Dialog>
  );
}

const aboutRole: Record<string, Key> = { member: 'people.memberText', admin: 'people.adminText', child: 'guardian.childText' };

function AddPerson({ onClose, onAdded }: { onClose: () => void; onAdded: () => void }) {
  const [username, setUsername] = useState('');
  const [password, setPassword] = useState('');
  const [role, setRole] = useState('member');
  const [guardian, setGuardian] = useState('');
  const [ofAge, setOfAge] = useState('');
  const act = useAct();
  const submit = async () => {
    if (await act.run(() => call('POST', '/v1/users', { username: username.trim(), password, role, ...(role === 'child' && { guardian: guardian.trim(), of_age: ofAge.trim() }) }))) {
      say(t('people.added', { name: username.trim() }));
      onAdded();
      onClose();
    }
  };
  return (
    <Dialog title={t('people.add')} onClose={onClose}>
      <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <p class="hint">{t('people.addText')}</p>
        <Field label={t('username')} value={username} onInput={setUsername} autocomplete="off" autocapitalize="off" spellcheck={false} required />
        <Password label={t('people.password')} value={password} onInput={setPassword} fresh hint={<PasswordHint password={password} username={username} />} />
        <fieldset class="choice">
          <legend>{t('people.role')}</legend>
          {(session.value.me!.role === 'owner' ? ['member', 'admin', 'child'] : ['member', 'child']).map((r) => (
            <label class="check">
              <input type="radio" name="role" value={r} checked={role === r} onChange={() => setRole(r)} />
              <span>{word('role', r)}<small>{t(aboutRole[r]!)}</small></span>
            </label>
          ))}
        </fieldset>
        {role === 'child' && (
          <div class="pair">
            <Field label={t('guardian.who')} hint={t('guardian.whoHint')} value={guardian} onInput={setGuardian} required maxLength={64} autocomplete="off" autocapitalize="off" spellcheck={false} />
            <Field label={t('guardian.month')} hint={t('guardian.monthHint')} value={ofAge} onInput={setOfAge} required maxLength={7} pattern="[0-9]{4}-[0-9]{2}" autocomplete="off" />
          </div>
        )}
        {act.problem && <ProblemNote problem={act.problem} />}
        <div class="row-end"><Button onClick={onClose}>{t('cancel')}</Button><Button kind="main" type="submit" busy={act.busy}>{t('people.add')}</Button></div>
      </form>
    </Dialog>
  );
}

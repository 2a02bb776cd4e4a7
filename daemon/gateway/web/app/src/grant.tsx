import { useState } from 'preact/hooks';
import { call, get, type Device } from './api';
import { PolicyCard } from './consents';
import { decide, onDevice, stateOf, useConsents, type Consents } from './decide';
import { t } from './i18n';
import { route } from './route';
import { refresh } from './session';
import { useStore } from './store';
import { Button, Field, Head, Note, ProblemNote, Show, Switch, useAct, useLoad } from './ui';

interface Login {
  client: string;
  from: string;
}

/** Where an app sends its person to let it in: the device gets its name, and what it may back up is decided. */
export function Grant() {
  const path = '/index.php/login/v2/flow/' + encodeURIComponent(useStore(route).rest);
  const login = useLoad(() => get<Login>(path), [path]);
  const consents = useConsents();
  const [done, setDone] = useState(false);
  if (done) return <><Head title={t('grant.done')} text={t('grant.doneText')} /><p><a class="button" href="#/files">{t('welcome.go')}</a></p></>;
  return (
    <>
      <Head title={t('grant.title')} text={t('grant.text')} />
      <Show of={login}>
        {(l) => (
          <Show of={consents}>
            {(c) => stateOf(c, c.purposes.find((p) => p.core)?.id ?? '')?.granted
              ? <GrantForm login={l} consents={c} path={path} changed={consents.reload} done={() => setDone(true)} />
              : <PolicyCard consents={c} changed={consents.reload} open />}
          </Show>
        )}
      </Show>
    </>
  );
}

function GrantForm({ login, consents: c, path, changed, done }: { login: Login; consents: Consents; path: string; changed: () => void; done: () => void }) {
  const backups = c.purposes.filter((p) => !p.core && p.available && p.per_device && (p.sources ?? []).length > 0);
  const [name, setName] = useState('');
  const [on, setOn] = useState<Record<string, boolean>>({});
  const [device, setDevice] = useState<Device | null>(null); // made by a try that failed later
  const act = useAct();
  const wanted = (id: string) => on[id] ?? stateOf(c, id)?.granted ?? false;
  const allow = (e: Event) => {
    e.preventDefault();
    void act.run(async () => {
      const d = device ?? (await call<Device>('POST', '/v1/devices', { name, kind: 'phone' }));
      setDevice(d);
      try {
        for (const p of backups) if (wanted(p.id) !== onDevice(c, p.id, d.id)) await decide(c, p.id, wanted(p.id), d.id);
      } catch (e) { // decided elsewhere meanwhile: as it stands now, to be chosen again
        setOn({});
        changed();
        throw e;
      }
      await call('POST', path, { device: d.id });
      await refresh();
      done();
    });
  };
  return (
    <form class="card" onSubmit={allow}>
      <dl class="facts">
        <div><dt>{t('grant.client')}</dt><dd>{login.client || t('grant.unknown')}</dd></div>
        <div><dt>{t('grant.from')}</dt><dd>{login.from}</dd></div>
      </dl>
      <Note kind="warn">{t('grant.only')}</Note>
      <Field label={t('grant.device')} hint={t('grant.deviceHint')} name="device" maxLength={64} required value={name} onInput={setName} />
      <h2 class="section-title">{t('grant.backup')}</h2>
      <p class="section-text">{t('grant.backupText')}</p>
      {backups.map((p) => (
        <div class="device-row" key={p.id}>
          <div><strong>{p.title}</strong><div class="hint">{p.what}</div></div>
          <Switch label={p.title} checked={wanted(p.id)} busy={act.busy} onChange={(v) => setOn({ ...on, [p.id]: v })} />
        </div>
      ))}
      {act.problem && <ProblemNote problem={act.problem} />}
      <div class="row-end">
        <a class="button" href="#/files">{t('grant.deny')}</a>
        <Button kind="main" type="submit" busy={act.busy}>{t('grant.allow')}</Button>
      </div>
    </form>
  );
}

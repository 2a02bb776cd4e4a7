import { useState } from 'preact/hooks';
import { call } from './api';
import { b } from './binding/texts';
import { t } from './i18n';
import { PasswordHint } from './password';
import { PolicyText, usePolicy } from './policy';
import { session, signedIn, thisDevice } from './session';
import { Words } from './signin';
import { Button, Field, Head, Password, ProblemNote, useAct } from './ui';

/** Makes the box somebody's: who holds its label and its code becomes its owner. */
export function FirstRun() {
  const [same, compared] = useState(false);
  const [serial, setSerial] = useState('');
  const [code, setCode] = useState('');
  const [username, setUsername] = useState('');
  const [password, setPassword] = useState('');
  const policy = usePolicy();
  const act = useAct();
  const submit = () =>
    act.run(async () => {
      const bind = { serial: serial.trim(), code: code.replace(/\s|-/g, ''), username: username.trim(), password, device: thisDevice() };
      await signedIn(await call('POST', '/v1/bind', bind, true), true);
    });
  return (
    <>
      <Head title={t('first.title')} text={t('first.text', { box: session.value.box!.name })} />
      <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <section class="card step">
          <h2><span class="step-n" aria-hidden="true">1</span>{t('first.key')}</h2>
          <p>{t('first.keyText')}</p>
          <Words />
          <p class="hint">{b('wordsLimit')} {b('wordsNetwork')}</p>
          {!same && <div class="row-end"><Button kind="main" onClick={() => compared(true)}>{b('wordsSame')}</Button></div>}
        </section>
        {same && <><section class="card step">
          <h2><span class="step-n" aria-hidden="true">2</span>{t('first.label')}</h2>
          <p>{t('first.labelText')}</p>
          <div class="pair">
            <Field label={t('first.serial')} value={serial} onInput={setSerial} autocomplete="off" autocapitalize="characters" spellcheck={false} required />
            <Field label={t('first.code')} hint={t('first.codeHint')} value={code} onInput={setCode} inputMode="numeric" autocomplete="off" spellcheck={false} required />
          </div>
        </section>
        <section class="card step">
          <h2><span class="step-n" aria-hidden="true">3</span>{t('first.owner')}</h2>
          <p>{t('first.ownerText')}</p>
          <div class="pair">
            <Field label={t('username')} value={username} onInput={setUsername} name="username" autocomplete="username" autocapitalize="off" spellcheck={false} required />
            <Password label={t('password')} value={password} onInput={setPassword} fresh hint={<PasswordHint password={password} username={username} />} />
          </div>
          <details class="more">
            <summary>{t('policy.read')}</summary>
            <PolicyText of={policy} />
          </details>
          <p class="hint">{t('first.nothing')}</p>
          {act.problem && <ProblemNote problem={act.problem} />}
          <Button kind="main" type="submit" busy={act.busy}>{t('first.do')}</Button>
        </section></>}
      </form>
    </>
  );
}

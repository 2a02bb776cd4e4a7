import { useState } from 'preact/hooks';
import { call, Problem } from './api';
import { CodeField } from './code';
import { t } from './i18n';
import { href } from './route';
import { session, signedIn, thisDevice } from './session';
import { Button, Field, Head, Password, ProblemNote, useAct } from './ui';

export function SignIn() {
  const [username, setUsername] = useState('');
  const [password, setPassword] = useState('');
  const [asked, ask] = useState(false); // the password was right, and the box wants a code
  const [code, setCode] = useState('');
  const act = useAct();
  const submit = () =>
    act.run(async () => {
      const who = { username: username.trim(), password, device: thisDevice(), ...(asked && { otp: code }) };
      try {
        await signedIn(await call('POST', '/v1/session', who, true), false);
      } catch (e) {
        setCode('');
        if (Problem.of(e).kind !== 'code-required' || asked) throw e;
        ask(true);
      }
    });
  if (asked) {
    return (
      <div class="card narrow" key="code">
        <Head title={t('signin.code')} text={t('signin.codeText', { name: username.trim() })} />
        <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
          <CodeField value={code} onInput={setCode} focus />
          {act.problem && <ProblemNote problem={act.problem} />}
          <Button kind="main" type="submit" busy={act.busy} class="full">{t('signin.do')}</Button>
          <Button kind="quiet" class="full" onClick={() => { ask(false); setPassword(''); act.clear(); }}>{t('signin.back')}</Button>
        </form>
        <details class="more">
          <summary>{t('signin.lost')}</summary>
          <p class="hint">{t('signin.lostText')} <code>sudo yunboxctl user reset-factor</code></p>
        </details>
      </div>
    );
  }
  return (
    <div class="card narrow" key="password">
      <Head title={t('signin.title')} text={t('signin.text', { box: session.value.box!.name })} />
      <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <Field label={t('username')} value={username} onInput={setUsername} name="username" autocomplete="username" autocapitalize="off" spellcheck={false} required />
        <Password label={t('password')} value={password} onInput={setPassword} />
        {act.problem && <ProblemNote problem={act.problem} />}
        <Button kind="main" type="submit" busy={act.busy} class="full">{t('signin.do')}</Button>
      </form>
      <details class="more">
        <summary>{t('words.whether')}</summary>
        <Words />
      </details>
      <p class="hint"><a href={href('ask')}>{t('rights.ask')}</a></p>
    </div>
  );
}

/** The box's key as six words, to be compared with what the box itself prints. */
export function Words() {
  const words = session.value.box!.words;
  return (
    <div class="words-block">
      <ol class="words" lang="en">{words.map((w) => <li>{w}</li>)}</ol>
      <p class="hint">{t('words.compare')} <code>sudo yunboxctl label</code></p>
      <p class="hint">{t('words.why')}</p>
    </div>
  );
}

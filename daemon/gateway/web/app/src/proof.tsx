import { useState } from 'preact/hooks';
import { call, onProofWanted } from './api';
import { CodeField } from './code';
import { t } from './i18n';
import { session } from './session';
import { Store, useStore } from './store';
import { Button, Dialog, Password, ProblemNote, useAct } from './ui';

/** A proof of identity that the box has asked for: with a code or without, and who waits for it. */
const wanted = new Store<{ code: boolean; answer: (given: boolean) => void } | null>(null);

onProofWanted((code) => new Promise((answer) => wanted.set({ code, answer })));

/** Asks for the password again, in front of whatever the person was doing, which then goes on. */
export function ProofDialog() {
  const now = useStore(wanted);
  const end = (given: boolean) => {
    wanted.set(null);
    now?.answer(given);
  };
  return now && <Ask code={now.code} end={end} />;
}

function Ask({ code: withCode, end }: { code: boolean; end: (given: boolean) => void }) {
  const [password, setPassword] = useState('');
  const [code, setCode] = useState('');
  const act = useAct();
  const submit = async () => {
    // A wrong password is no reason to sign the page out.
    const given = await act.run(() => call('POST', '/v1/session/proof', { password, ...(withCode && { otp: code }) }, true));
    if (given) end(true);
    else setCode('');
  };
  return (
    <Dialog title={t('identity.title')} onClose={() => end(false)}>
      <p>{t('identity.text')}</p>
      <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <input type="text" name="username" autocomplete="username" value={session.value.me?.username} hidden readOnly />
        <Password label={t('identity.password')} value={password} onInput={setPassword} />
        {withCode && <CodeField value={code} onInput={setCode} />}
        {act.problem && <ProblemNote problem={act.problem} />}
        <div class="row-end"><Button onClick={() => end(false)}>{t('cancel')}</Button><Button kind="main" type="submit" busy={act.busy}>{t('identity.do')}</Button></div>
      </form>
    </Dialog>
  );
}

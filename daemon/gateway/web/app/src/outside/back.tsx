import { useEffect, useState } from 'preact/hooks';
import { call, Problem } from '../api';
import { CodeField } from '../code';
import { go, href, route } from '../route';
import { session, signedIn, thisDevice } from '../session';
import { useStore } from '../store';
import { Button, Head, Loading, Note, ProblemNote, useAct } from '../ui';
import { o } from './texts';

/** Where a service elsewhere sends the browser back to: it asks the box for the outcome. */
export default function Back() {
  const { rest } = useStore(route);
  const [code, setCode] = useState('');
  const [asked, ask] = useState(false);
  const act = useAct();
  const signIn = (otp?: string) =>
    act.run(async () => {
      try {
        await signedIn(await call('POST', '/v1/session/elsewhere', { device: thisDevice(), ...(otp && { otp }) }, true), false);
        go('files');
      } catch (e) {
        setCode('');
        if (Problem.of(e).kind !== 'code-required' || otp) throw e;
        ask(true);
      }
    });
  const link = () =>
    act.run(async () => {
      await call('POST', '/v1/me/links');
      go('outside');
    });
  useEffect(() => {
    if (rest === 'sign-in' && !session.value.me) void signIn();
    if (rest === 'link' && session.value.me) void link();
  }, []);
  const home = session.value.me ? 'outside' : '';
  return (
    <div class="card narrow">
      <Head title={o(rest === 'link' ? 'outside.linking' : 'outside.signingIn')} />
      {rest === 'over' && <Note kind="warn" icon="warn"><p>{o('outside.over')}</p></Note>}
      {asked && (
        <form onSubmit={(e) => { e.preventDefault(); void signIn(code); }}>
          <CodeField value={code} onInput={setCode} focus />
          <Button kind="main" type="submit" busy={act.busy} class="full">{o('outside.signIn')}</Button>
        </form>
      )}
      {act.problem && <ProblemNote problem={act.problem} />}
      {act.busy && !asked && <Loading />}
      {!act.busy && <p><a href={href(home)}>{o('outside.back')}</a></p>}
    </div>
  );
}

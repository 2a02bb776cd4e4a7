import { call, get } from '../api';
import { Icon } from '../icons';
import { Button, ProblemNote, useAct, useLoad } from '../ui';
import { Notice } from './notice';
import { o, type Incident } from './texts';

export interface Service { id: string; name: string; kind: string }

/** Before one is signed in: what everybody must be told, and other ways to sign in. Mostly neither. */
export default function Gate() {
  const told = useLoad(async () => (await get<{ incidents: Incident[] }>('/v1/announcements')).incidents, []);
  const services = useLoad(async () => (await get<{ services: Service[] }>('/v1/sign-in')).services, []);
  const act = useAct();
  const go = (s: Service) => act.run(async () => location.assign((await call<{ url: string }>('POST', '/v1/sign-in/' + s.id, undefined, true)).url));
  return (
    <>
      {(services.value?.length ?? 0) > 0 && (
        <div class="card narrow">
          <h2>{o('outside.signInWith')}</h2>
          <p class="hint">{o('outside.signInHint')}</p>
          {act.problem && <ProblemNote problem={act.problem} />}
          {services.value!.map((s) => <Button class="full" busy={act.busy} onClick={() => void go(s)}>{o('outside.signInOne', { name: s.name })} <Icon name="out" /></Button>)}
        </div>
      )}
      {(told.value?.length ?? 0) > 0 && <h2 class="section-title">{o('outside.announced')}</h2>}
      {told.value?.map((i) => <Notice of={i} key={i.id} />)}
    </>
  );
}

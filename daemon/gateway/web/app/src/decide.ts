import { call, get, Problem, type Changes, type Consent, type Device, type Policy, type Purpose, type Receipt } from './api';
import { lang, learn } from './i18n';
import { useLoad, type Loaded } from './ui';

export interface Consents {
  policy: Policy;
  purposes: Purpose[];
  states: Consent[];
  devices: Device[];
  changes: Changes;
}

export const useConsents = (): Loaded<Consents> =>
  useLoad(async () => {
    const [policy, { purposes }, { consents }, { devices }, changes] = await Promise.all([
      get<Policy>(`/v1/policy?lang=${lang.value}`),
      get<{ purposes: Purpose[] }>(`/v1/purposes?lang=${lang.value}`),
      get<{ consents: Consent[] }>('/v1/consents'),
      get<{ devices: Device[] }>('/v1/devices'),
      get<Changes>(`/v1/policy/changes?lang=${lang.value}`),
    ]);
    return { policy, purposes, states: consents, devices, changes };
  }, [lang.value]);

export const stateOf = (c: Consents, purpose: string, device: string | null = null) => c.states.find((s) => s.purpose === purpose && (s.device ?? null) === device);

/** Whether a purpose may be pursued on a device: the later of its own decision and the one for all devices counts. */
export function onDevice(c: Consents, purpose: string, device: string): boolean {
  const all = stateOf(c, purpose), own = stateOf(c, purpose, device);
  return (own?.time && (!all?.time || own.time > all.time) ? own : all)?.granted ?? false;
}

/** What was decided last about a purpose when the page asked. */
export const newest = (states: Consent[], purpose: string) => states.find((s) => s.purpose === purpose)?.newest ?? '';

/** The box's answer to a yes. It refuses one that comes after a decision made elsewhere; that is seldom, so its words are fetched then. */
export const heard = <T,>(answer: Promise<T>) =>
  answer.catch(async (e: unknown) => {
    if (Problem.of(e).kind === 'conflict') await import('./consents/server.zh.json').then((m) => learn(m.default), () => {});
    throw e;
  });

/** Records a decision; the switch moves when the box has it. A yes says what was on show, so that it undoes nothing that was decided elsewhere meanwhile. */
export async function decide(c: Consents, purpose: string, granted: boolean, device: string | null) {
  const path = '/v1/consents/' + encodeURIComponent(purpose);
  const { record_id } = await (granted
    ? heard(call<Receipt>('PUT', path, { granted: true, policy_revision: c.policy.revision, after: newest(c.states, purpose), ...(device ? { device } : {}) }))
    : call<Receipt>('DELETE', path + (device ? '?device=' + encodeURIComponent(device) : '')));
  for (const s of c.states) if (s.purpose === purpose) s.newest = record_id; // for the next one, before the states are here anew
}

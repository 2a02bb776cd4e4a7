import { call, type Consent } from './api';

/** Whether the person agreed to usage logs; null: not known yet. */
let agreed: Promise<boolean> | null = null;

/**
 * Tells the box that a page was opened, of those who agreed to that, and nothing else of
 * anybody. What they agreed to is asked again after the page where they change it.
 */
export async function noteUse(page: string) {
  if (page === 'consents') agreed = null;
  else {
    agreed ??= call<{ consents: Consent[] }>('GET', '/v1/consents', undefined, true)
      .then((c) => c.consents.some((s) => s.purpose === 'usage_logs' && s.granted));
    try {
      if (await agreed) await call('POST', '/v1/me/usage', { page }, true);
    } catch {
      agreed = null; // it is no reason for a problem on the page
    }
  }
}

import { call, type Consent } from './api';
import { browserName } from './session';
import { memory } from './store';

/** Whether the person agreed to usage logs; null: not known yet. */
let agreed: Promise<boolean> | null = null;

async function ask(): Promise<boolean> {
  const { consents } = await call<{ consents: Consent[] }>('GET', '/v1/consents', undefined, true);
  const granted = (purpose: string) => consents.some((c) => c.purpose === purpose && c.granted);
  const device = memory.get('yunbox.device');
  if (device && granted('device_info')) {
    const [app, system] = browserName().split(', ');
    const version = /(?:Edg|Firefox|Chrome|Version)\/(\d+)/.exec(navigator.userAgent)?.[1];
    await call('PUT', `/v1/devices/${device}/about`, { app: version ? `${app} ${version}` : app, ...(system && { system }) }, true);
  }
  return granted('usage_logs');
}

/**
 * Tells the box what this browser is, and that a page was opened, of those who agreed to
 * each, and nothing of anybody else. What they agreed to is asked again after the page
 * where they change it.
 */
export async function noteUse(page: string) {
  if (page === 'consents') {
    agreed = null;
    return;
  }
  try {
    if (await (agreed ??= ask())) await call('POST', '/v1/me/usage', { page }, true);
  } catch {
    agreed = null; // it is no reason for a problem on the page
  }
}

import { call } from './api';
import { readNotices } from './session';
import { Store } from './store';

/** The path of what changed last in the person's files, set once for each change. */
export const changed = new Store('');

/** How long until a stream that the box has refused is tried again, in ms. */
const AGAIN = 30_000;

/** Hears from the box what happens, for as long as somebody is signed in; one stream for all pages. */
export function listen(): () => void {
  let events: EventSource;
  let timer = 0;
  const begin = () => {
    events = new EventSource('/v1/events');
    events.addEventListener('change', (e) => changed.set((JSON.parse((e as MessageEvent<string>).data) as { path: string }).path));
    events.addEventListener('notice', () => void readNotices());
    events.addEventListener('error', () => {
      if (events.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      call('GET', '/v1/me').then(() => (timer = setTimeout(begin, AGAIN)), () => {}); // signed out elsewhere: the page says so
    });
  };
  begin();
  return () => {
    clearTimeout(timer);
    events.close();
  };
}

import { call, get, onSessionLost, Problem, type Box, type Me, type Notice } from './api';
import { memory, Store } from './store';
import { queue } from './upload/queue';

/** Where the page stands. */
export interface Session {
  box: Box | null;
  me: Me | null;
  /** Just bound or not accepted yet: the policy and the purposes are shown first. */
  welcome: boolean;
  problem: Problem | null;
  ready: boolean;
}

export const session = new Store<Session>({ box: null, me: null, welcome: false, problem: null, ready: false });
const update = (s: Partial<Session>) => session.set({ ...session.value, ...s });

/** What the person has not seen yet of what happened on their account elsewhere. */
export const notices = new Store<Notice[]>([]);

/** Asks for the notices again. They are no reason for a problem on the page. */
export async function readNotices() {
  try {
    const list = (await call<{ notices: Notice[] }>('GET', '/v1/me/notices', undefined, true)).notices;
    notices.set(list.filter((n) => !n.own));
  } catch {
    // The next page asks again.
  }
}

/** Asks who the box is and who is signed in. */
export async function begin() {
  try {
    const box = await get<Box>('/.well-known/yunbox');
    let me: Me | null = null;
    if (box.bound) {
      try {
        me = await call<Me>('GET', '/v1/me', undefined, true);
      } catch (e) {
        if (Problem.of(e).status !== 401) throw e;
      }
    }
    if (me) {
      queue.begin(me.id);
      void readNotices();
    }
    update({ box, me, problem: null, ready: true, ...(me?.policy.standing === 'behind' && { welcome: true }) });
  } catch (e) {
    update({ problem: Problem.of(e), ready: true });
  }
}

/** After signing in or binding; the session itself is a cookie that no script can read. */
export async function signedIn(answer: { device: string | null }, welcome: boolean) {
  if (answer.device) memory.set('yunbox.device', answer.device);
  const [box, me] = await Promise.all([get<Box>('/.well-known/yunbox'), get<Me>('/v1/me')]);
  queue.begin(me.id);
  queue.resumeAll();
  void readNotices();
  update({ box, me, welcome: welcome || me.policy.accepted === null });
}

/** Reads the person's own record again, after something in it has changed. */
export async function refresh() {
  update({ me: await get<Me>('/v1/me') });
}

export const endWelcome = () => update({ welcome: false });

export async function signOut() {
  await call('DELETE', '/v1/session', undefined, true);
  await queue.clear();
  notices.set([]);
  update({ me: null, welcome: false });
}

// A session that ended by itself leaves the queue: the same person finds it after signing in again.
onSessionLost(() => {
  if (!session.value.me) return;
  queue.pauseAll();
  update({ me: null, welcome: false });
});

export const isAdmin = (me: Me) => me.role === 'owner' || me.role === 'admin';

/** What a sign-in says of this browser; the box gave it an id when it first came. */
export function thisDevice(): { id?: string; name: string; kind: string } {
  const id = memory.get('yunbox.device');
  return { ...(id ? { id } : {}), name: browserName(), kind: 'browser' };
}

export function browserName(): string {
  const ua = navigator.userAgent;
  const browser = /Edg\//.test(ua) ? 'Edge' : /Firefox\//.test(ua) ? 'Firefox' : /Chrome\//.test(ua) ? 'Chrome' : /Safari\//.test(ua) ? 'Safari' : 'Browser';
  const system = /Android/.test(ua) ? 'Android' : /iPhone|iPad/.test(ua) ? 'iOS' : /Mac OS/.test(ua) ? 'macOS' : /Windows/.test(ua) ? 'Windows' : /Linux/.test(ua) ? 'Linux' : '';
  return system ? `${browser}, ${system}` : browser;
}

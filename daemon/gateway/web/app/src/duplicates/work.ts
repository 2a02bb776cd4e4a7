import { Problem, problemOf, sessionLost } from '../api';
import { session } from '../session';
import { Store } from '../store';

/** A path below a folder; those that are no UTF-8 come as their bytes. */
export type Name = string | { base64: string };
export interface Entry {
  path: Name;
  size: number;
  mtime: number;
}
export interface Group {
  sha256: string;
  size: number;
  in_box: boolean;
  keep: Entry;
  fold: Entry[];
}
export interface Picture {
  path: Name;
  size: number;
  width: number;
  height: number;
  exact?: boolean;
}
export interface Alike {
  best: Picture;
  files: Picture[];
}
export interface Troubles {
  n: number;
  list: { path: Name; reason: string }[] | null;
}
export interface Report {
  files: number;
  bytes: number;
  same: number;
  free: number;
  in_box: number;
  linked: number;
  other_mounts: number;
  reflinks: boolean;
  unreadable: Troubles;
  changed: Troubles;
}
export type Action = 'trash' | 'hardlink' | 'reflink';
export type Rule = 'oldest' | 'newest' | 'shortest';
export interface Plan {
  plan: string;
  root: Name;
  created: string;
  action: Action;
  groups: number;
  files: number;
  free: number;
  left: number;
  state: 'planned' | 'begun' | 'applied' | 'undone';
}
export interface Folded {
  action: Action;
  done: number;
  bytes: number;
  left: Troubles;
  nothing?: boolean;
}
export interface Progress {
  stage: 'listing' | 'sampling' | 'reading' | 'comparing' | 'folding' | 'undoing';
  files: number;
  of_files: number;
  bytes: number;
  of_bytes: number;
  rate: number;
  seconds_left: number;
}
export interface Done {
  scan?: Report;
  alike?: { pictures: number; groups: number; alike: number; bytes: number; unseen: number };
  plan?: Plan;
  folded?: Folded;
  undo?: Folded;
  failed?: { kind: string; title: string; detail?: string; hint?: string; members?: Record<string, unknown> };
}
type Event = { event: 'progress' } & Progress | { event: 'group' } & Group | { event: 'alike' } & Alike | { event: 'done' } & Done;

export type Verb = 'scan' | 'plan' | 'apply' | 'undo';
export interface Task {
  path: string;
  plan?: string;
  action?: Action;
  rule?: Rule;
  prefer?: string[];
  stay?: string[];
  similar?: boolean;
  groups?: boolean;
}

/** What the box is doing for this page. It goes on while the person looks at other pages. */
export interface Work {
  verb: Verb;
  folder: string;
  progress: Progress | null;
}

/** What was found in one folder: large files first, and only so many of them. */
export interface Found {
  folder: string;
  report: Report;
  plan: Plan;
  groups: Group[];
  alike: Done['alike'] | null;
  pictures: Alike[];
}

/** How many groups the page keeps; the others are counted. */
const KEPT = 500;

export const work = new Store<Work | null>(null);
export const found = new Store<Found | null>(null);
/** What apply or undo came to, until the next look. */
export const outcome = new Store<{ folder: string; plan: Plan; verb: 'apply' | 'undo'; folded: Folded } | null>(null);
export const trouble = new Store<Problem | null>(null);
let abort: AbortController | null = null;

/** Ends what runs. The box stops between two files and remembers what it has read. */
export const stop = () => abort?.abort();

/** Stops, and forgets what was found: another person may come. */
function clear() {
  stop();
  found.set(null);
  outcome.set(null);
  trouble.set(null);
}
session.watch(() => session.value.me === null && (work.value || found.value || outcome.value) && clear());

/** Has the box do a task and follows it to its end; null: it was stopped here. */
async function run(verb: Verb, task: Task, seen: (e: Event) => void): Promise<Done | null> {
  const mine = (abort = new AbortController());
  work.set({ verb, folder: task.path, progress: null });
  try {
    const r = await fetch('/v1/duplicates/' + verb, {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(task),
      credentials: 'same-origin', cache: 'no-store', signal: mine.signal,
    });
    if (!r.ok || !r.body) {
      if (r.status === 401) sessionLost();
      throw problemOf(r.status, await r.text(), r.headers.get('Retry-After'));
    }
    const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Problem(0); // the box went away in the middle
      const lines = (rest + value).split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        const e = JSON.parse(line) as Event;
        if (e.event === 'done') {
          if (e.failed) throw new Problem(-1, { ...e.failed.members, ...e.failed, type: 'urn:yunbox:problem:' + e.failed.kind });
          return e;
        }
        if (e.event === 'progress') work.set({ verb, folder: task.path, progress: e });
        else seen(e);
      }
    }
  } catch (e) {
    if (mine.signal.aborted) return null;
    throw e instanceof Problem ? e : new Problem(0);
  } finally {
    if (abort === mine) {
      abort = null;
      work.set(null);
    }
  }
}

/** Runs something of the page, one at a time; its problem is kept for the page. */
async function attempt(act: () => Promise<void>) {
  if (work.value) return;
  trouble.set(null);
  try {
    await act();
  } catch (e) {
    trouble.set(Problem.of(e));
  }
}

/** Plans and takes in the groups; nothing of the folder changes. */
async function plan(task: Task): Promise<Found | null> {
  const groups: Group[] = [];
  const done = await run('plan', { ...task, groups: true }, (e) => e.event === 'group' && groups.length < KEPT && groups.push(e));
  return done?.plan && done.scan ? { folder: task.path, report: done.scan, plan: done.plan, groups, alike: null, pictures: [] } : null;
}

/** Looks a folder through, and for pictures that look alike if the person wants that. */
export const look = (folder: string, similar: boolean) =>
  attempt(async () => {
    outcome.set(null);
    found.set(null);
    const first = await plan({ path: folder, action: 'trash', rule: 'oldest' });
    if (!first) return;
    found.set(first);
    if (!similar) return;
    const pictures: Alike[] = [];
    const done = await run('scan', { path: folder, similar: true, groups: true }, (e) => e.event === 'alike' && pictures.length < KEPT && pictures.push(e));
    if (done) found.set({ ...first, alike: done.alike ?? null, pictures });
  });

/** Plans again as the person chose; true: there is a plan to be asked about. */
export async function prepare(task: Task): Promise<boolean> {
  let made = false;
  await attempt(async () => {
    const before = found.value, next = await plan(task);
    if (!next) return;
    // Groups that the person leaves alone are in no plan, and stay on show.
    const again = new Map(next.groups.map((g) => [g.sha256, g]));
    found.set(before ? { ...before, report: next.report, plan: next.plan, groups: before.groups.map((g) => again.get(g.sha256) ?? g) } : next);
    made = true;
  });
  return made;
}

/** Carries a plan out or takes it back. What was found is no longer so after that. */
export const carry = (verb: 'apply' | 'undo', folder: string, plan: Plan) =>
  attempt(async () => {
    outcome.set(null);
    const done = await run(verb, { path: folder, plan: plan.plan }, () => {});
    const folded = done?.folded ?? done?.undo;
    found.set(null);
    if (folded) outcome.set({ folder, plan, verb, folded });
  });

export const nameOf = (n: Name) => (typeof n === 'string' ? n : new TextDecoder().decode(Uint8Array.from(atob(n.base64), (c) => c.charCodeAt(0))));

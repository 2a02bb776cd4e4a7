import { call, Problem, sessionLost } from '../api';
import { Store } from '../store';
import type { HashReply, HashRequest } from './hash.worker';
import { permitted, type Picked } from './pick';
import { hashKey, shelf, type Kept } from './shelf';
import { cancel, claim, freeName, send, type Outgoing } from './tus';

export type State =
  | 'waiting' // its turn to be read has not come
  | 'hashing'
  | 'checking' // the box is asked whether it has that content
  | 'ready' // known to be needed, or to be named only
  | 'sending'
  | 'retrying' // the box could not be reached; tried again by itself
  | 'paused'
  | 'absent' // the browser cannot read the file (any more): the person chooses it again, or permits it
  | 'stored'
  | 'known'
  | 'declined' // its owner deleted it from the box
  | 'refused' // consent is missing
  | 'failed';

export interface Transfer {
  readonly id: number;
  readonly path: string; // as it was chosen: its name, with its folders if a folder was chosen
  readonly folder: string; // on the box, '' for the top
  readonly source: string;
  readonly size: number; // bytes
  readonly mtime: number; // ms
  file: File | null;
  handle: FileSystemFileHandle | undefined;
  root: FileSystemDirectoryHandle | undefined;
  target: string; // on the box: in folder, by its path unless another content has that name
  state: State;
  hashed: number; // bytes
  sent: number; // bytes
  sha256: string;
  was: string; // its hash before it was to be read again
  url: string; // of the unfinished upload, '' if there is none
  wanted: boolean; // its owner deleted it from the box and wants it back
  known: boolean; // the box needs no bytes: only the name is sent
  tries: number;
  problem: Problem | null;
  stop: AbortController | null;
  gone: boolean; // no longer in the list
}

export interface Totals {
  files: number;
  bytes: number;
  done: number; // bytes that need no more work
  busy: number; // files that move by themselves
  paused: number;
  absent: number;
  stored: number;
  known: number;
  declined: number;
  refused: number;
  failed: number;
  rate: number; // bytes per second, 0 while unknown
}

const PARALLEL = 3;
const BATCH = 500; // hashes per question
const LONGEST_WAIT = 30_000; // ms between two tries

const over: ReadonlySet<State> = new Set<State>(['stored', 'known', 'declined', 'refused', 'failed']);
export const isOver = (x: Transfer) => over.has(x.state);
const counted = ['stored', 'known', 'declined', 'refused', 'failed', 'paused', 'absent'] as const;

/**
 * Takes files to the box: hash → ask in batches what is there already → name
 * it or send it, three at a time. A batch is whatever was hashed while the last
 * question was on its way, so a lone file never waits. The list is kept on the
 * shelf and goes on after a reload, as far as the browser lets it.
 */
export class Queue {
  /** Set (to a new number) when something that is drawn has changed, at most some times a second. */
  readonly changed = new Store(0);
  readonly all: Transfer[] = [];
  /** What was chosen and not begun: the person still looks at where it is from. */
  readonly chosen = new Store<Picked[]>([]);
  user = '';
  /** Another tab of this browser has the list. */
  elsewhere = false;
  /** Whether the screen stays on by itself while files move. */
  awake = false;

  #ids = 0;
  #worker: Worker | null = null;
  #reading: Transfer | null = null;
  #asking = false;
  #sending = 0;
  #draw = 0;
  #wake: WakeLockSentinel | null = null;
  #blocked = new Map<string, Problem>(); // source → what is missing
  #marks: { at: number; bytes: number }[] = []; // for the rate
  #moved = 0; // bytes that went over the wire
  #leave = () => {}; // lets another tab have the list

  constructor() {
    addEventListener('online', () => this.#retryNow());
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.#retryNow(); // a phone that slept has lost its connections
      else void shelf.flush();
      void this.#stayAwake();
    });
    addEventListener('pagehide', () => void shelf.flush());
    addEventListener('beforeunload', (e) => {
      if (this.all.some((x) => !isOver(x) && x.state !== 'absent' && x.state !== 'paused' && !x.handle)) e.preventDefault();
    });
  }

  /** Begins for a person who is signed in, with what they left unfinished in this browser. */
  begin(user: string) {
    if (this.user === user) return;
    this.#stopAll();
    this.user = user;
    const hold = () => new Promise<void>((leave) => {
      this.#leave = leave;
      this.elsewhere = false;
      void this.#restore(user);
    });
    // Where there are no locks (no secure connection) two tabs may do some work twice; the box copes.
    if (!navigator.locks) return void hold();
    const name = 'yunbox.backup.' + user;
    const gone = () => this.user !== user;
    navigator.locks
      .request(name, { ifAvailable: true }, (got) => (got ? hold() : undefined))
      .then(() => {
        if (gone()) return;
        this.elsewhere = true;
        this.#notify();
        return navigator.locks.request(name, () => (gone() ? undefined : hold()));
      })
      .catch(() => {});
  }

  async #restore(user: string) {
    const rows = await shelf.load(user);
    if (this.user !== user) return;
    const here = new Set(this.all.map(identity));
    for (const r of rows) {
      if (here.has(r.id)) continue;
      const state = r.state as State;
      this.all.push({
        ...fresh(++this.#ids, r.path, r.folder, r.source, r.size, r.mtime), handle: r.handle, root: r.root,
        target: r.target, state: over.has(state) || (state === 'paused' && r.handle) ? state : 'absent', sent: r.sent, sha256: r.sha256, url: r.url,
        wanted: r.wanted, problem: r.problem && new Problem(r.problem.status, r.problem.body),
      });
    }
    this.#pump();
    await this.permit(false);
  }

  /**
   * Goes on with absent files whose handles the browser kept. With ask the browser
   * may ask the person first, which it does only after their tap.
   */
  async permit(ask: boolean) {
    const roots: { root: FileSystemDirectoryHandle; open: boolean }[] = [];
    let refused = false;
    const may = async (h: FileSystemHandle) => {
      const ok = await permitted(h, ask && !refused);
      refused ||= ask && !ok; // asked once: the others stay until the next tap
      return ok;
    };
    for (const x of this.all.filter((y) => y.state === 'absent' && y.handle)) {
      if (x.root) {
        // A folder's permission counts for all that is in it.
        let known = roots.find((r) => r.root.name === x.root!.name);
        if (known && !(await known.root.isSameEntry(x.root))) known = undefined;
        if (!known) roots.push((known = { root: x.root, open: await may(x.root) }));
        if (!known.open) continue;
      } else if (!(await may(x.handle!))) {
        continue;
      }
      await this.#fetch(x);
    }
    this.#pump();
  }

  /** Reads a file anew by its handle, and goes on with it. */
  async #fetch(x: Transfer) {
    try {
      const file = await x.handle!.getFile();
      if (x.state !== 'absent') return;
      if (file.size === x.size && file.lastModified === x.mtime) {
        x.file = file;
        this.#restart(x);
        return;
      }
      // It was changed meanwhile: another content, and another entry of the list.
      this.remove(x);
      await this.add([{ file, path: x.path, handle: x.handle, root: x.root }], x.source, x.folder);
    } catch {
      x.handle = x.root = undefined; // it is gone from its place
      this.#keep(x);
    }
  }

  /**
   * Gives files that were chosen again to the entries that lack them, and returns
   * the others. A file whose time changed (pickers of iOS give the time of the
   * choice) is read again before it goes on.
   */
  adopt(files: Picked[]): Picked[] {
    // From the surest likeness to the least: by path, by name, by name without the time.
    const keys = (path: string, size: number, mtime: number) => [[path, size, mtime], [base(path), size, mtime], [base(path), size]].map((k) => k.join('\n'));
    const index = new Map<string, Transfer[]>();
    for (const x of this.all) {
      if (x.state !== 'absent') continue;
      for (const k of keys(x.path, x.size, x.mtime)) index.get(k)?.push(x) ?? index.set(k, [x]);
    }
    const rest = files.filter((p) => {
      let x: Transfer | undefined;
      for (const k of keys(p.path, p.file.size, p.file.lastModified)) x ??= index.get(k)?.find((y) => y.state === 'absent');
      if (!x) return true;
      x.file = p.file;
      x.handle = p.handle;
      x.root = p.root;
      this.#restart(x, p.file.lastModified !== x.mtime);
      return false;
    });
    this.#pump();
    return rest;
  }

  /** Takes files of one source up. What is in the list already is offered again. */
  async add(files: Picked[], source: string, folder: string) {
    const { user } = this;
    const hashes = await shelf.hashes(files.map((p) => hashKey(user, p.path, p.file.size, p.file.lastModified)));
    if (this.user !== user) return;
    this.#blocked.delete(source); // the consent may have been given meanwhile
    const here = new Map(this.all.map((x) => [identity(x), x]));
    files.forEach(({ file, path, handle, root }, n) => {
      const size = file.size, mtime = file.lastModified, hash = hashes[n]!;
      const same = here.get(identity({ path, folder, source, size, mtime }));
      if (same) {
        if (!isOver(same) && same.state !== 'absent') return;
        Object.assign(same, { file, handle, root });
        this.#restart(same);
        return;
      }
      const x: Transfer = { ...fresh(++this.#ids, path, folder, source, size, mtime), file, handle, root, state: hash ? 'checking' : 'waiting', sha256: hash };
      here.set(identity(x), x);
      this.all.push(x);
      this.#keep(x);
    });
    this.#pump();
  }

  pause(x: Transfer) {
    if (isOver(x) || x.state === 'paused' || x.state === 'absent') return;
    this.#halt(x, 'paused');
    this.#pump();
  }

  #halt(x: Transfer, state: State) {
    const stop = x.stop;
    x.state = state;
    stop?.abort();
    if (this.#reading === x) this.#release(x);
    this.#keep(x);
  }

  resume(x: Transfer) {
    this.#each([x], (y) => y.state === 'paused' || y.state === 'retrying');
  }

  /** Tries again what was refused, declined or failed. */
  again(x: Transfer) {
    this.#each([x], (y) => y.state === 'refused' || y.state === 'failed' || y.state === 'declined');
  }

  /** Offers contents again that the box has no more as they were. */
  resend(hashes: ReadonlySet<string>) {
    this.#each(this.all, (x) => isOver(x) && hashes.has(x.sha256));
  }

  #each(list: Transfer[], which: (x: Transfer) => boolean) {
    let lacking = false;
    for (const x of [...list].filter(which)) {
      this.#blocked.delete(x.source);
      if (x.state === 'declined') x.wanted = true;
      this.#restart(x);
      lacking ||= x.state === 'absent' && x.handle !== undefined;
    }
    this.#pump();
    if (lacking) void this.permit(true);
  }

  /** Goes on from the beginning of its way; with reread what was known of its content is in doubt. */
  #restart(x: Transfer, reread = false) {
    const kind = x.problem?.kind;
    if ((reread || kind === 'mismatch' || kind === 'unreadable') && x.sha256) {
      void shelf.keepHash(hashKey(this.user, x.path, x.size, x.mtime), null);
      if (kind === 'mismatch') x.url = '';
      x.was = x.sha256;
      x.sha256 = '';
    }
    x.problem = null;
    x.tries = 0;
    x.state = !x.file ? 'absent' : x.sha256 ? 'checking' : 'waiting';
    this.#keep(x);
  }

  /** Takes a file off the list; what the box has of an unfinished one is forgotten there too. */
  remove(x: Transfer) {
    if (!isOver(x)) this.#halt(x, 'paused');
    const at = this.all.indexOf(x);
    if (at >= 0) this.all.splice(at, 1);
    x.gone = true;
    shelf.put(this.user, identity(x), null);
    if (x.url) void cancel(x.url);
    this.#pump();
  }

  pauseAll() {
    for (const x of [...this.all]) this.pause(x);
  }
  resumeAll() {
    this.#each(this.all, (x) => x.state === 'paused' || x.state === 'retrying');
  }
  againAll() {
    this.#each(this.all, (x) => x.state === 'refused' || x.state === 'failed'); // what was declined is asked for by itself
  }
  /** Takes back all that was declined: its owner wants it on the box after all. */
  wantAll() {
    this.#each(this.all, (x) => x.state === 'declined');
  }
  clearDone() {
    this.#drop(isOver);
  }
  dropAbsent() {
    this.#drop((x) => x.state === 'absent');
  }
  #drop(which: (x: Transfer) => boolean) {
    for (const x of this.all.filter(which)) this.remove(x);
  }

  /** Ends everything, for a page that signs out: nothing that names a file stays in the browser. */
  async clear() {
    const { user } = this;
    this.#stopAll();
    if (user) await shelf.forget(user);
  }

  #stopAll() {
    for (const x of this.all) {
      x.gone = true;
      x.stop?.abort();
    }
    if (this.#reading) this.#release(this.#reading);
    this.all.length = 0;
    this.chosen.set([]);
    this.user = '';
    this.elsewhere = false;
    this.#blocked.clear();
    this.#leave();
    this.#leave = () => {};
    this.#pump();
  }

  totals(): Totals {
    const n: Totals = {
      files: this.all.length, bytes: 0, done: 0, busy: 0, paused: 0, absent: 0, stored: 0, known: 0, declined: 0, refused: 0, failed: 0, rate: this.#rate(),
    };
    for (const x of this.all) {
      n.bytes += x.size;
      n.done += isOver(x) ? x.size : x.sent;
      const c = counted.find((s) => s === x.state);
      if (c) n[c]++;
      else n.busy++;
    }
    return n;
  }

  #pump() {
    this.#read();
    void this.#ask();
    this.#start();
    void this.#stayAwake();
    this.#notify();
  }

  /** Puts a transfer on the shelf as it is now. */
  #keep(x: Transfer) {
    if (x.gone) return;
    const row: Kept = {
      user: this.user, id: identity(x), path: x.path, folder: x.folder, target: x.target, source: x.source, size: x.size, mtime: x.mtime,
      state: x.state, sha256: x.sha256 || x.was, url: x.url, sent: x.sent, wanted: x.wanted, problem: x.problem && { status: x.problem.status, body: x.problem.members }, at: Date.now(),
      ...(x.handle ? { handle: x.handle } : {}), ...(x.root ? { root: x.root } : {}),
    };
    shelf.put(this.user, row.id, row);
  }

  // One file is read at a time: two would only make a disk seek.
  #read() {
    if (this.#reading) return;
    const x = this.all.find((y) => y.state === 'waiting');
    if (!x) return;
    this.#reading = x;
    x.state = 'hashing';
    x.hashed = 0;
    if (!this.#worker) {
      this.#worker = new Worker(WORKER_URL);
      this.#worker.onmessage = (e: MessageEvent<HashReply>) => this.#hashReply(e.data);
    }
    this.#worker.postMessage({ id: x.id, file: x.file! } satisfies HashRequest);
  }

  #release(x: Transfer) {
    this.#worker?.postMessage({ id: x.id } satisfies HashRequest);
    this.#reading = null;
  }

  #hashReply(r: HashReply) {
    const x = this.#reading;
    if (!x || x.id !== r.id) return; // called off
    if (r.done !== undefined) {
      x.hashed = r.done;
      return this.#notify();
    }
    this.#reading = null;
    if (r.sha256) {
      if (x.url && x.was !== r.sha256) {
        void cancel(x.url); // that was another content
        x.url = '';
        x.sent = 0;
      }
      x.sha256 = r.sha256;
      x.hashed = x.size;
      x.state = 'checking';
      void shelf.keepHash(hashKey(this.user, x.path, x.size, x.file!.lastModified), r.sha256);
      this.#keep(x);
    } else {
      this.#unreadable(x, r.error ?? '');
    }
    this.#pump();
  }

  /** The browser lost the file: it was changed or moved, or the phone took the permission back. */
  #unreadable(x: Transfer, detail: string) {
    x.file = null;
    x.problem = new Problem(-1, { type: 'urn:yunbox:problem:unreadable', detail });
    x.state = 'absent';
    this.#keep(x);
  }

  async #ask() {
    if (this.#asking) return;
    const batch = this.all.filter((x) => x.state === 'checking').slice(0, BATCH);
    if (batch.length === 0) return;
    this.#asking = true;
    try {
      const { known, declined } = await call<{ known: string[]; declined: { sha256: string }[] }>('POST', '/v1/blobs/known', { sha256: [...new Set(batch.map((x) => x.sha256))] });
      // What would be declined is offered by its name alone, too: the box says why, and keeps it in the device's history.
      const set = new Set([...known, ...declined.map((d) => d.sha256)]);
      for (const x of batch) {
        if (x.state !== 'checking') continue;
        x.known = set.has(x.sha256);
        x.state = 'ready';
      }
    } catch (e) {
      const p = Problem.of(e);
      for (const x of batch) if (x.state === 'checking') this.#end(x, p);
    }
    this.#asking = false;
    this.#pump();
  }

  #start() {
    for (const x of this.all) {
      if (this.#sending >= PARALLEL) return;
      if (x.state !== 'ready') continue;
      const blocked = this.#blocked.get(x.source);
      if (blocked) this.#end(x, blocked);
      else void this.#send(x, x.file!);
    }
  }

  async #send(x: Transfer, file: File) {
    this.#sending++;
    x.state = 'sending';
    const stop = (x.stop = new AbortController());
    let last = x.sent;
    const sent = (n: number) => {
      n = Math.min(n, x.size);
      this.#moved += Math.max(0, n - last);
      x.sent = last = n;
      this.#notify();
    };
    try {
      // A person who puts a file under a name of their choice means to replace what was there; a backup does not.
      if (!x.url) {
        x.target = x.folder ? `${x.folder}/${x.path}` : x.path;
        const inUse = (name: string) => this.all.some((y) => y !== x && y.target === name && y.sha256 !== x.sha256 && (y.state === 'sending' || y.url !== '' || isOver(y)));
        if (x.source !== 'other') x.target = await freeName(x.target, x.sha256, inUse, stop.signal);
      }
      const o: Outgoing = {
        file, path: x.target, mtime: x.mtime, source: x.source, sha256: x.sha256, wanted: x.wanted, url: x.url,
        keep: (url, offset) => {
          const fresh = url !== x.url;
          x.url = url;
          x.sent = offset;
          this.#keep(x);
          if (fresh) void shelf.flush();
        },
      };
      const stored = (x.known && (await claim(o, stop.signal))) || (await send(o, stop.signal, sent));
      x.sent = x.size;
      x.tries = 0;
      x.state = stored.known ? 'known' : 'stored';
      x.problem = null;
      x.file = null; // not needed any more, and a phone may hold a copy of it
    } catch (e) {
      if (!stop.signal.aborted) await this.#broke(x, Problem.of(e));
    }
    if (x.stop === stop) x.stop = null;
    this.#sending--;
    if (!stop.signal.aborted) this.#keep(x);
    if (!x.gone) this.#pump();
  }

  /** A request that failed: the box is away, or the file is. */
  async #broke(x: Transfer, p: Problem) {
    if (p.status === 0 && x.size > 0) {
      try {
        await x.file!.slice(0, 1).arrayBuffer();
      } catch (e) {
        if (x.state === 'sending') this.#unreadable(x, String(e));
        return;
      }
    }
    if (x.state === 'sending') this.#end(x, p);
  }

  /** Decides what an error means for a file. */
  #end(x: Transfer, p: Problem) {
    x.problem = p;
    if (p.status === 401) {
      x.state = 'paused';
      sessionLost();
    } else if (p.kind === 'consent-required') {
      x.state = 'refused';
      this.#blocked.set(x.source, p);
    } else if (p.kind === 'deleted') {
      x.state = 'declined';
    } else if (p.passing) {
      x.state = 'retrying';
      const wait = Math.max(p.retryAfter * 1000, Math.min(LONGEST_WAIT, 1000 * 2 ** x.tries++) * (0.75 + Math.random() / 2));
      setTimeout(() => x.state === 'retrying' && this.#retry(x), wait);
    } else {
      x.state = 'failed';
    }
    this.#keep(x);
  }

  #retry(x: Transfer) {
    x.state = x.sha256 ? 'checking' : 'waiting';
    this.#pump();
  }

  #retryNow() {
    for (const x of this.all) if (x.state === 'retrying') this.#retry(x);
  }

  /** Bytes per second over the last ten seconds. */
  #rate(): number {
    const now = performance.now();
    if (this.#sending === 0) {
      this.#marks = [];
      return 0;
    }
    this.#marks.push({ at: now, bytes: this.#moved });
    while (this.#marks.length > 2 && now - this.#marks[0]!.at > 10_000) this.#marks.shift();
    const first = this.#marks[0]!;
    return now - first.at < 500 ? 0 : ((this.#moved - first.bytes) / (now - first.at)) * 1000;
  }

  #notify() {
    if (this.#draw) return;
    this.#draw = setTimeout(() => {
      this.#draw = 0;
      this.changed.set(this.changed.value + 1);
    }, 150);
  }

  /** Keeps the screen on while files are read or sent: a phone that sleeps stops both. */
  async #stayAwake() {
    const wanted = (this.#sending > 0 || this.#reading !== null) && document.visibilityState === 'visible';
    if (!wanted) {
      void this.#wake?.release().catch(() => {});
      this.#wake = null;
      this.awake = false;
    } else if (!this.#wake && !this.awake && navigator.wakeLock) {
      this.awake = true;
      try {
        this.#wake = await navigator.wakeLock.request('screen');
        this.#wake.onrelease = () => {
          this.#wake = null;
          this.awake = false;
        };
      } catch {
        this.awake = false; // not allowed (battery saver): the person keeps the screen on
      }
      this.#notify();
    }
  }
}

const fresh = (id: number, path: string, folder: string, source: string, size: number, mtime: number): Transfer => ({
  id, path, folder, source, size, mtime, file: null, handle: undefined, root: undefined, target: '', state: 'waiting', hashed: 0, sent: 0,
  sha256: '', was: '', url: '', wanted: false, known: false, tries: 0, problem: null, stop: null, gone: false,
});
const identity = (x: { path: string; folder: string; source: string; size: number; mtime: number }) => [x.folder, x.path, x.source, x.size, x.mtime].join('\n');
const base = (path: string) => path.slice(path.lastIndexOf('/') + 1);

export const queue = new Queue();

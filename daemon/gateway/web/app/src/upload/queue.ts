import { call, Problem, sessionLost } from '../api';
import { Store } from '../store';
import type { HashReply, HashRequest } from './hash.worker';
import { sha256 } from './sha256';
import { cancel, claim, send, unfinished, type Outgoing } from './tus';

export type State =
  | 'waiting' // its turn to be read has not come
  | 'hashing'
  | 'checking' // the box is asked whether it has that content
  | 'ready' // known to be needed, or to be named only
  | 'sending'
  | 'retrying' // the box could not be reached; tried again by itself
  | 'paused'
  | 'stored'
  | 'known'
  | 'refused' // consent is missing
  | 'failed';

export interface Transfer {
  readonly id: number;
  readonly file: File;
  readonly path: string;
  readonly source: string;
  state: State;
  hashed: number; // bytes
  sent: number; // bytes
  sha256: string;
  wanted: boolean; // its owner deleted it from the box and wants it back
  known: boolean; // the box has the content: only its name is sent
  tries: number;
  problem: Problem | null;
  stop: AbortController | null;
}

export interface Totals {
  files: number;
  bytes: number;
  done: number; // bytes that need no more work
  busy: number; // files that are not at their end
  paused: number;
  stored: number;
  known: number;
  refused: number;
  failed: number;
  rate: number; // bytes per second, 0 while unknown
}

const PARALLEL = 3;
const BATCH = 500; // hashes per question
const LONGEST_WAIT = 30_000; // ms between two tries

const over: ReadonlySet<State> = new Set<State>(['stored', 'known', 'refused', 'failed']);
export const isOver = (x: Transfer) => over.has(x.state);

/**
 * Takes files to the box: hash → ask in batches what is there already → name
 * it or send it, three at a time. A batch is whatever was hashed while the last
 * question was on its way, so a lone file never waits.
 */
export class Queue {
  /** Set (to a new number) when something that is drawn has changed, at most some times a second. */
  readonly changed = new Store(0);
  readonly all: Transfer[] = [];
  user = '';

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

  constructor() {
    addEventListener('online', () => this.#retryNow());
    document.addEventListener('visibilitychange', () => this.#stayAwake());
    addEventListener('beforeunload', (e) => {
      if (this.totals().busy > 0) e.preventDefault();
    });
  }

  add(files: { file: File; path: string }[], source: string) {
    const here = new Set(this.all.filter((x) => x.state !== 'failed' && x.state !== 'refused').map(identity));
    this.#blocked.delete(source); // the consent may have been given meanwhile
    for (const { file, path } of files) {
      const x: Transfer = {
        id: ++this.#ids, file, path, source,
        state: 'waiting', hashed: 0, sent: 0, sha256: '', wanted: false, known: false, tries: 0, problem: null, stop: null,
      };
      if (here.has(identity(x))) continue;
      here.add(identity(x));
      this.all.push(x);
    }
    this.#pump();
  }

  pause(x: Transfer) {
    if (isOver(x) || x.state === 'paused') return;
    const stop = x.stop;
    x.state = 'paused';
    stop?.abort();
    if (this.#reading === x) this.#release(x);
    this.#pump();
  }

  resume(x: Transfer) {
    if (x.state !== 'paused' && x.state !== 'retrying') return;
    this.#restart(x);
  }

  /** Tries again what was refused or failed. */
  again(x: Transfer) {
    if (x.state !== 'refused' && x.state !== 'failed') return;
    this.#blocked.delete(x.source);
    if (x.problem?.kind === 'deleted') x.wanted = true;
    this.#restart(x);
  }

  #restart(x: Transfer) {
    if (x.problem?.kind === 'mismatch') x.sha256 = ''; // the file has changed since it was read
    x.problem = null;
    x.tries = 0;
    x.state = x.sha256 ? 'ready' : 'waiting';
    this.#pump();
  }

  /** Takes a file off the list; what the box has of an unfinished one is forgotten there too. */
  remove(x: Transfer) {
    this.pause(x);
    const at = this.all.indexOf(x);
    if (at >= 0) this.all.splice(at, 1);
    if (!isOver(x) && x.sha256) void cancel(this.#outgoing(x).key);
    this.#pump();
  }

  pauseAll() {
    for (const x of [...this.all]) this.pause(x);
  }
  resumeAll() {
    for (const x of [...this.all]) this.resume(x);
  }
  againAll() {
    for (const x of [...this.all]) if (x.problem?.kind !== 'deleted') this.again(x); // that is asked for one by one
  }
  clearDone() {
    for (const x of this.all.filter(isOver)) this.remove(x);
  }
  /** Ends everything, for a page that signs out. Unfinished uploads can be taken up again later. */
  clear() {
    this.pauseAll();
    this.all.length = 0;
    this.#blocked.clear();
    this.#pump();
  }

  totals(): Totals {
    const n: Totals = { files: this.all.length, bytes: 0, done: 0, busy: 0, paused: 0, stored: 0, known: 0, refused: 0, failed: 0, rate: this.#rate() };
    for (const x of this.all) {
      n.bytes += x.file.size;
      n.done += isOver(x) ? x.file.size : x.sent;
      if (x.state === 'stored' || x.state === 'known' || x.state === 'refused' || x.state === 'failed' || x.state === 'paused') n[x.state]++;
      else n.busy++;
    }
    return n;
  }

  #pump() {
    this.#read();
    this.#ask();
    this.#start();
    this.#stayAwake();
    this.#notify();
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
    this.#worker.postMessage({ id: x.id, file: x.file } satisfies HashRequest);
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
      x.sha256 = r.sha256;
      x.hashed = x.file.size;
      x.state = 'checking';
    } else if (r.error) {
      this.#end(x, new Problem(-1, { type: 'urn:yunbox:problem:unreadable', detail: r.error }));
    }
    this.#pump();
  }

  async #ask() {
    if (this.#asking) return;
    const batch = this.all.filter((x) => x.state === 'checking').slice(0, BATCH);
    if (batch.length === 0) return;
    this.#asking = true;
    try {
      const { known } = await call<{ known: string[] }>('POST', '/v1/blobs/known', { sha256: [...new Set(batch.map((x) => x.sha256))] });
      const set = new Set(known);
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
      else void this.#send(x);
    }
  }

  async #send(x: Transfer) {
    this.#sending++;
    x.state = 'sending';
    const stop = (x.stop = new AbortController());
    let last = x.sent;
    const sent = (n: number) => {
      n = Math.min(n, x.file.size);
      this.#moved += Math.max(0, n - last);
      x.sent = last = n;
      this.#notify();
    };
    try {
      const o = this.#outgoing(x);
      const stored = (x.known && (await claim(o, stop.signal))) || (await send(o, stop.signal, sent));
      x.sent = x.file.size;
      x.tries = 0;
      x.state = stored.known ? 'known' : 'stored';
    } catch (e) {
      if (!stop.signal.aborted) this.#end(x, Problem.of(e));
    }
    if (x.stop === stop) x.stop = null;
    this.#sending--;
    this.#pump();
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
    } else if (p.passing) {
      x.state = 'retrying';
      const wait = Math.max(p.retryAfter * 1000, Math.min(LONGEST_WAIT, 1000 * 2 ** x.tries++) * (0.75 + Math.random() / 2));
      setTimeout(() => x.state === 'retrying' && this.#retry(x), wait);
    } else {
      x.state = 'failed';
    }
  }

  #retry(x: Transfer) {
    x.state = x.sha256 ? 'checking' : 'waiting';
    this.#pump();
  }

  #retryNow() {
    for (const x of this.all) if (x.state === 'retrying') this.#retry(x);
  }

  #outgoing(x: Transfer): Outgoing {
    const { file, path, source, sha256: hash, wanted } = x;
    const key = sha256([this.user, path, source, file.size, file.lastModified, hash].join('\n')).slice(0, 32);
    return { file, path, source, sha256: hash, wanted, key };
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

  /** Keeps the screen on while files move: a phone that sleeps stops sending. */
  async #stayAwake() {
    const wanted = this.#sending > 0 && document.visibilityState === 'visible';
    if (!wanted) {
      void this.#wake?.release().catch(() => {});
      this.#wake = null;
    } else if (!this.#wake && navigator.wakeLock) {
      try {
        this.#wake = await navigator.wakeLock.request('screen');
        this.#wake.onrelease = () => (this.#wake = null);
      } catch {
        // Not allowed (battery saver): the person keeps the screen on.
      }
    }
  }
}

const identity = (x: Transfer) => [x.path, x.source, x.file.size, x.file.lastModified].join('\n');

export const queue = new Queue();
export { unfinished };

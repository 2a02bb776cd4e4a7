import { sha256 } from './sha256';

/** A file of a backup, as it outlives the page. */
export interface Kept {
  user: string;
  id: string; // names the file among those of the user
  path: string; // as it was chosen
  folder: string; // on the box
  target: string; // where it goes on the box
  source: string;
  size: number;
  mtime: number; // ms
  state: string;
  sha256: string; // '' while unknown
  url: string; // of the unfinished upload, '' if there is none
  sent: number; // bytes that the box has
  wanted: boolean;
  problem: { status: number; body: Record<string, unknown> } | null;
  handle?: FileSystemFileHandle;
  root?: FileSystemDirectoryHandle;
  at: number; // ms; when it was written last
}

const MONTH = 30 * 86_400_000; // ms

/**
 * What a backup needs to go on after a reload or in a restarted browser, in
 * IndexedDB. A browser that closes it to us (private windows, policies) keeps
 * nothing: every method then does nothing, and works is false.
 */
class Shelf {
  works = false;
  #open: Promise<IDBDatabase | null> | null = null;
  #dirty = new Map<string, { user: string; id: string; row: Kept | null }>();
  #timer = 0;

  #db(): Promise<IDBDatabase | null> {
    this.#open ??= new Promise((ok) => {
      let r: IDBOpenDBRequest;
      try {
        r = indexedDB.open('yunbox', 1);
      } catch {
        return ok(null);
      }
      r.onupgradeneeded = () => {
        r.result.createObjectStore('files', { keyPath: ['user', 'id'] });
        r.result.createObjectStore('hashes', { keyPath: 'key' }).createIndex('at', 'at');
      };
      r.onerror = r.onblocked = () => ok(null);
      r.onsuccess = () => {
        this.works = true;
        r.result.onversionchange = () => r.result.close();
        ok(r.result);
      };
    });
    return this.#open;
  }

  /** Everything kept for a user. What is older than a month is forgotten: the box forgets unfinished uploads sooner. */
  async load(user: string): Promise<Kept[]> {
    const db = await this.#db();
    if (!db) return [];
    const tx = db.transaction(['files', 'hashes'], 'readwrite');
    const old = tx.objectStore('hashes').index('at').openKeyCursor(IDBKeyRange.upperBound(Date.now() - 12 * MONTH));
    old.onsuccess = () => {
      if (!old.result) return;
      tx.objectStore('hashes').delete(old.result.primaryKey);
      old.result.continue();
    };
    const rows = await answer<Kept[]>(tx.objectStore('files').getAll(whole(user)), []);
    const [fresh, stale] = [rows.filter((r) => Date.now() - r.at < MONTH), rows.filter((r) => Date.now() - r.at >= MONTH)];
    for (const r of stale) this.put(user, r.id, null);
    return fresh;
  }

  /** Writes a row soon, together with others; null removes it. */
  put(user: string, id: string, row: Kept | null) {
    this.#dirty.set(user + '\n' + id, { user, id, row });
    this.#timer ||= setTimeout(() => void this.flush(), 250);
  }

  /** Writes at once what is to be written. */
  async flush() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const rows = [...this.#dirty.values()];
    this.#dirty.clear();
    const db = rows.length ? await this.#db() : null;
    if (!db) return;
    const tx = db.transaction('files', 'readwrite');
    const files = tx.objectStore('files');
    for (const { user, id, row } of rows) {
      try {
        if (row) files.put(row);
        else files.delete([user, id]);
      } catch {
        // A handle that this browser cannot keep: the person chooses the file again.
        if (row) files.put({ ...row, handle: undefined, root: undefined });
      }
    }
    await new Promise<void>((ok) => (tx.oncomplete = tx.onerror = tx.onabort = () => ok()));
  }

  /** Forgets the files of a user, with their names. Hashes stay: they tell no name. */
  async forget(user: string) {
    this.#dirty.clear();
    const db = await this.#db();
    if (db) await answer(db.transaction('files', 'readwrite').objectStore('files').delete(whole(user)), undefined);
  }

  /** Forgets everything that this browser kept, of everybody. */
  async empty() {
    this.#dirty.clear();
    const db = await this.#db();
    if (!db) return;
    const tx = db.transaction(['files', 'hashes'], 'readwrite');
    await Promise.all([answer(tx.objectStore('files').clear(), undefined), answer(tx.objectStore('hashes').clear(), undefined)]);
  }

  /** The hashes of files that were read before, '' where unknown. */
  async hashes(keys: string[]): Promise<string[]> {
    const db = keys.length ? await this.#db() : null;
    if (!db) return keys.map(() => '');
    const store = db.transaction('hashes').objectStore('hashes');
    const found = await Promise.all(keys.map((k) => answer<{ sha256: string } | undefined>(store.get(k), undefined)));
    return found.map((f) => f?.sha256 ?? '');
  }

  async keepHash(key: string, hash: string | null) {
    const store = (await this.#db())?.transaction('hashes', 'readwrite').objectStore('hashes');
    if (hash) store?.put({ key, sha256: hash, at: Date.now() });
    else store?.delete(key);
  }
}

/** Names a file of a user by what the browser tells of it, without telling its name. */
export const hashKey = (user: string, path: string, size: number, mtime: number) => sha256([user, path, size, mtime].join('\n'));

const whole = (user: string) => IDBKeyRange.bound([user], [user, []]); // every id is a string, and arrays come after strings

const answer = <T>(r: IDBRequest, otherwise: T) =>
  new Promise<T>((ok) => {
    r.onsuccess = () => ok(r.result as T);
    r.onerror = () => ok(otherwise);
  });

export const shelf = new Shelf();

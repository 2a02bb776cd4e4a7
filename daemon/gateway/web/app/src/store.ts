import { useEffect, useState } from 'preact/hooks';

/** A value that pages can watch. */
export class Store<T> {
  #watchers = new Set<() => void>();
  constructor(public value: T) {}

  set(value: T) {
    this.value = value;
    for (const w of [...this.#watchers]) w();
  }

  watch(f: () => void): () => void {
    this.#watchers.add(f);
    return () => this.#watchers.delete(f);
  }
}

/** Draws the component again whenever the store's value is set. */
export function useStore<T>(store: Store<T>): T {
  const [, draw] = useState({});
  useEffect(() => store.watch(() => draw({})), [store]);
  return store.value;
}

/** localStorage may be closed to us (private windows, policies): then nothing is remembered. */
export const memory = {
  get(key: string): string | null {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  },
  set(key: string, value: string | null) {
    try {
      if (value === null) localStorage.removeItem(key);
      else localStorage.setItem(key, value);
    } catch {
      // Full or closed: the page works without.
    }
  },
  keys(): string[] {
    try {
      return Object.keys(localStorage);
    } catch {
      return [];
    }
  },
};

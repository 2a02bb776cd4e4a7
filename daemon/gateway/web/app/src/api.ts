/** What the box answers; see /v1/openapi.json. */
export interface Box {
  name: string;
  id: string;
  bound: boolean;
  /** There is something to read, or another way to choose, before one signs in. */
  gate: boolean;
  fingerprint: string;
  words: string[];
  policy_revision: string;
  version: string;
}
export interface Me {
  id: string;
  username: string;
  role: 'owner' | 'admin' | 'member' | 'child';
  usage: { items: number; bytes: number; distinct_bytes: number; quota: number | null };
  policy: { current: string; accepted: string | null; standing: string };
  /** For how many days a backup does not bring back what the person deleted; 0: never. */
  decline_deleted_days: number;
}
export interface Item {
  id: string;
  path: string;
  name: string;
  sha256: string;
  size: number;
  mtime: string | null;
  added: string;
  source: string;
  device: string | null;
  trashed: string | null;
}
export interface Listing {
  folders: { path: string; name: string }[];
  items: Item[];
  next: string | null;
}
export interface Policy {
  revision: string;
  modified: string;
  text: string;
  lang: string;
  accepted: { revision: string; time: string } | null;
  standing: string | null;
}
export interface Revision {
  revision: string;
  modified: string;
  changes: string[];
}
export interface Changes {
  revisions: Revision[];
  wider: string[];
}
export interface Purpose {
  id: string;
  version: string | number;
  title: string;
  what: string;
  data: string[];
  sensitive: boolean;
  retention: string;
  erased: string;
  clauses: string[];
  processor: string;
  without?: string;
  core: boolean;
  per_device?: boolean;
  sources: string[] | null;
  available: boolean;
}
export interface Consent {
  purpose: string;
  state: 'never' | 'granted' | 'withdrawn' | 'suspended';
  granted: boolean;
  device: string | null;
  policy_revision: string;
  time: string | null;
  /** The newest receipt about the purpose, "" if there is none. */
  newest: string;
}
/** A consent receipt, as far as the page reads it; the whole is shown and saved as it came. */
export interface Receipt {
  record_id: string;
  privacy_notice: { revision: string };
  purpose: { id: string; title: Record<string, string> };
  device?: string;
  event: { state: string; time: string };
}
export interface Storage {
  disk: { total: number; free: number };
  mine: { items: number; bytes: number; distinct_bytes: number; saved_bytes: number };
  box: { items: number; logical_bytes: number; blobs: number; physical_bytes: number; saved_bytes: number } | null;
  second_copy: { time: string; complete: boolean; current: boolean } | null;
  care: { disk: 'ok' | 'read-only' | 'failed'; damaged: number; oldest_unverified: string | null; scrub_days: number; scrubbed: string | null };
}
export interface Damaged {
  damaged: number;
  files: { item: Item; damage: string; found: string }[];
}
export interface Token {
  id: string;
  name: string;
  scope: string;
  created: string;
  last_used: string | null;
}
export interface Device {
  id: string;
  name: string;
  kind: string;
  created: string;
  last_seen: string | null;
  model?: string;
  system?: string;
  app?: string;
}
export interface Offer {
  time: string;
  path: string;
  size: number | null;
  outcome: 'stored' | 'known' | 'declined' | 'failed';
  reason: string;
}
/** Something that happened on the person's account. */
export interface Notice {
  id: string;
  time: string;
  kind: string;
  name: string | null;
  /** It happened in this browser. */
  own: boolean;
}
export interface User {
  id: string;
  username: string;
  role: string;
  disabled: boolean;
  /** What the person may keep, in bytes; null: no limit. */
  quota_bytes: number | null;
  created: string;
  /** Signing in takes a code, too. */
  second_factor: boolean;
}

/** An error that a person may read: RFC 9457, or the box could not be reached. */
export class Problem extends Error {
  /** The last part of the type, such as "consent-required"; "unreachable" when there was no answer. */
  readonly kind: string;
  readonly title: string;
  readonly detail: string;
  readonly hint: string;
  readonly members: Record<string, unknown>;

  constructor(readonly status: number, body: Record<string, unknown> = {}, readonly retryAfter = 0) {
    const text = (v: unknown) => (typeof v === 'string' ? v : '');
    super(text(body['title']) || `HTTP ${status}`);
    this.kind = status === 0 ? 'unreachable' : text(body['type']).split(':').pop() || 'internal';
    this.title = text(body['title']);
    this.detail = text(body['detail']);
    this.hint = text(body['hint']);
    this.members = body;
  }

  static of(e: unknown): Problem {
    return e instanceof Problem ? e : new Problem(-1, { type: 'urn:yunbox:problem:internal', detail: String(e) });
  }

  /** Trying again may help without anybody doing anything. */
  get passing(): boolean {
    return this.status === 0 || this.status === 408 || this.status === 423 || this.status === 429 || (this.status >= 500 && this.status !== 507);
  }
}

export function problemOf(status: number, text: string, retryAfter: string | null): Problem {
  let body: Record<string, unknown> = {};
  try {
    body = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // Not from the box's own code (a proxy, a cut answer): the status must do.
  }
  return new Problem(status, body, Number(retryAfter) || 0);
}

let lost = () => {};
/** Says what to do when the box no longer knows the session of a signed-in page. */
export function onSessionLost(f: () => void) {
  lost = f;
}
export const sessionLost = () => lost();

let prove: (code: boolean) => Promise<boolean> = () => Promise.resolve(false);
/** Says how to ask the person for their password again, with a code or without; it answers whether they gave it. */
export function onProofWanted(f: (code: boolean) => Promise<boolean>) {
  prove = f;
}

/** Longest wait for an answer, in ms: on a Wi-Fi that went away a request may otherwise hang for many minutes. */
const PATIENCE = 60_000;

/** One request with JSON, or with a file as it is; quiet ones do not sign the page out on a 401. Where the box wants a proof of identity first, the person is asked and the request goes on. */
export async function call<T>(method: string, path: string, body?: unknown, quiet = false, patience = PATIENCE): Promise<T> {
  let r: Response, text: string;
  try {
    r = await fetch(path, {
      method,
      headers: body === undefined || body instanceof Blob ? {} : { 'Content-Type': 'application/json' },
      body: body === undefined || body instanceof Blob ? body : JSON.stringify(body),
      credentials: 'same-origin',
      cache: 'no-store',
      signal: AbortSignal.timeout(patience),
    });
    text = await r.text();
  } catch {
    throw new Problem(0);
  }
  if (!r.ok) {
    if (r.status === 401 && !quiet) lost();
    const problem = problemOf(r.status, text, r.headers.get('Retry-After'));
    if (problem.kind === 'step-up-required' && (await prove(problem.members['code'] === true))) return call(method, path, body, quiet, patience);
    throw problem;
  }
  return (text ? JSON.parse(text) : undefined) as T;
}

export const get = <T>(path: string) => call<T>('GET', path);

/** A path of slash-separated names as it stands in a URL. */
export const escapePath = (p: string) => p.split('/').map(encodeURIComponent).join('/');
export const fileURL = (path: string) => '/v1/files/' + escapePath(path);

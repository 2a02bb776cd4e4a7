import { fileURL, Problem, problemOf } from '../api';

/** One file on its way, as the protocol sees it. */
export interface Outgoing {
  file: File;
  path: string; // where it goes, on the box
  mtime: number; // ms
  source: string;
  sha256: string;
  wanted: boolean; // also if its owner deleted it from the box
  url: string; // of an unfinished upload of it, '' for none
  keep: (url: string, offset: number) => void; // told where it goes on, and how much the box has
}

/** What the box said of a stored file. */
export interface Stored {
  known: boolean; // this content was on the box before
  path: string;
}

const CHUNK = 8 << 20; // what a cut connection can cost at most
const SILENCE = 60_000; // ms without a byte moving after which a connection is given up

interface Answer {
  status: number;
  header: (name: string) => string | null;
  text: string;
}

/** XMLHttpRequest, because fetch cannot tell how much of a body has been sent. */
function request(method: string, url: string, headers: Record<string, string>, body: Blob | null, signal: AbortSignal, sent?: (n: number) => void): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const x = new XMLHttpRequest();
    let timer = 0;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => x.abort(), SILENCE);
    };
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
    };
    const stop = () => x.abort();
    const fail = () => {
      end();
      reject(signal.aborted ? signal.reason : new Problem(0));
    };
    x.open(method, url);
    for (const [k, v] of Object.entries(headers)) x.setRequestHeader(k, v);
    x.upload.onprogress = (e) => {
      alive();
      sent?.(e.loaded);
    };
    x.onload = () => {
      end();
      resolve({ status: x.status, header: (n) => x.getResponseHeader(n), text: x.responseText });
    };
    x.onerror = x.onabort = fail;
    if (signal.aborted) return fail();
    signal.addEventListener('abort', stop);
    alive();
    x.send(body);
  });
}

const tus = { 'Tus-Resumable': '1.0.0' };
const refusal = (a: Answer) => problemOf(a.status, a.text, a.header('Retry-After'));

/** Names content that the box has already: no body byte is sent. null: the box wants the bytes after all. */
export async function claim(o: Outgoing, signal: AbortSignal): Promise<Stored | null> {
  const bytes = o.sha256.match(/../g)!.map((h) => parseInt(h, 16));
  const query = new URLSearchParams({ source: o.source, mtime: mtime(o), again: String(o.wanted) });
  const a = await request('PUT', `${fileURL(o.path)}?${query}`, { 'Repr-Digest': `sha-256=:${btoa(String.fromCharCode(...bytes))}:` }, null, signal);
  if (a.status === 200 || a.status === 201) return { known: true, path: (JSON.parse(a.text) as { path: string }).path };
  const p = refusal(a);
  if (p.kind === 'body-needed') return null;
  throw p;
}

/**
 * Sends one file by tus 1.0.0 and returns when the box has it durably. Goes on
 * where an earlier attempt stopped, in this page or before a reload. Throws a
 * Problem; calling again is safe at any time.
 */
export async function send(o: Outgoing, signal: AbortSignal, sent: (n: number) => void, again = true): Promise<Stored> {
  const size = o.file.size;
  let url = o.url;
  let offset = 0;
  let last: Answer | null = null;

  if (url) {
    last = await request('HEAD', url, tus, null, signal);
    if (last.status === 200 || last.status === 204) {
      offset = offsetOf(last, size);
    } else if (last.status === 404 || last.status === 410 || last.status === 403) {
      o.keep((url = ''), 0);
    } else {
      throw refusal(last);
    }
  }
  sent(offset);
  if (!url) {
    const meta = { filename: o.path, source: o.source, mtime: mtime(o), sha256: o.sha256, again: String(o.wanted) };
    const headers = {
      ...tus,
      'Upload-Length': String(size),
      'Upload-Metadata': Object.entries(meta).map(([k, v]) => `${k} ${base64(v)}`).join(','),
      'Content-Type': 'application/offset+octet-stream',
    };
    // What comes in one piece comes with its announcement. A larger file is announced first: where it
    // goes on must be known before a cut, not after the first piece.
    last = await request('POST', '/v1/uploads', headers, o.file.slice(0, size <= CHUNK ? size : 0), signal, sent);
    if (last.status !== 201) throw refusal(last);
    url = last.header('Location')!;
    offset = last.header('Upload-Offset') ? offsetOf(last, size) : 0;
    if (offset < size) o.keep(url, offset);
  }
  while (offset < size) {
    const from = offset;
    sent(from);
    const headers = { ...tus, 'Upload-Offset': String(from), 'Content-Type': 'application/offset+octet-stream' };
    last = await request('PATCH', url, headers, o.file.slice(from, from + CHUNK), signal, (n) => sent(from + n));
    if (last.status === 409) {
      // Somebody else moved the offset, or an answer was lost: ask.
      last = await request('HEAD', url, tus, null, signal);
    }
    if (last.status === 404 || last.status === 410) {
      o.keep('', 0);
      // It expired, or went with its consent: then the box says so when it begins anew.
      if (again) return send({ ...o, url: '' }, signal, sent, false);
    }
    if (last.status !== 200 && last.status !== 204) throw refusal(last);
    offset = offsetOf(last, size);
    if (offset < from) sent(offset);
    o.keep(url, offset);
  }
  o.keep('', size);
  const hash = last?.header('Yunbox-Sha256');
  if (hash !== o.sha256) {
    throw new Problem(-1, { type: 'urn:yunbox:problem:mismatch', detail: `sent ${o.sha256}, the box has ${hash ?? '?'}` });
  }
  const path = last?.header('Yunbox-Path');
  return { known: last?.header('Yunbox-Stored') === 'known', path: path ? decodeURIComponent(path) : o.path };
}

/** Tells the box to forget an unfinished upload. */
export async function cancel(url: string) {
  try {
    await request('DELETE', url, tus, null, AbortSignal.timeout(SILENCE));
  } catch {
    // It expires by itself.
  }
}

/**
 * A name for a file that is new to the box: its own, or with a number where that
 * is taken by another content. Cameras and phones count from 1 again, and what
 * has the name already must stay in sight.
 */
export async function freeName(path: string, hash: string, inUse: (name: string) => boolean, signal: AbortSignal): Promise<string> {
  const dot = path.lastIndexOf('.') > path.lastIndexOf('/') + 1 ? path.lastIndexOf('.') : path.length;
  for (let n = 1; n < 1000; n++) {
    const name = n === 1 ? path : `${path.slice(0, dot)} (${n})${path.slice(dot)}`;
    if (inUse(name)) continue;
    const a = await request('HEAD', fileURL(name), {}, null, signal);
    if (a.status !== 200) return name; // free, or the upload itself will say what is wrong
    if (a.header('ETag')?.includes(hash)) return name;
  }
  return path;
}

function offsetOf(a: Answer, size: number): number {
  const n = Number(a.header('Upload-Offset') ?? NaN);
  if (!Number.isSafeInteger(n) || n < 0 || n > size) throw new Problem(-1, { type: 'urn:yunbox:problem:internal', detail: 'Upload-Offset: ' + a.header('Upload-Offset') });
  return n;
}

const mtime = (o: Outgoing) => new Date(o.mtime).toISOString();
const base64 = (s: string) => btoa(String.fromCharCode(...new TextEncoder().encode(s)));


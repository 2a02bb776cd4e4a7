import { SHA256 } from './sha256';

/** Asks for a file's hash; a request without a file calls that id off. */
export interface HashRequest {
  id: number;
  file?: File;
}
export interface HashReply {
  id: number;
  done?: number; // bytes read so far
  sha256?: string;
  error?: string;
}

const WHOLE = 32 << 20; // up to here the browser's own, faster hash reads the file in one piece
const PIECE = 4 << 20;
const calledOff = new Set<number>();
const reply = (r: HashReply) => postMessage(r);

async function hash(id: number, file: File): Promise<string | undefined> {
  if (file.size <= WHOLE && globalThis.crypto?.subtle) {
    const sum = await crypto.subtle.digest('SHA-256', await file.arrayBuffer());
    return Array.from(new Uint8Array(sum), (b) => b.toString(16).padStart(2, '0')).join('');
  }
  const h = new SHA256();
  for (let at = 0; at < file.size; at += PIECE) {
    if (calledOff.has(id)) return undefined;
    h.update(new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer()));
    reply({ id, done: Math.min(at + PIECE, file.size) });
  }
  return h.hex();
}

onmessage = async (e: MessageEvent<HashRequest>) => {
  const { id, file } = e.data;
  if (!file) {
    calledOff.add(id);
    return;
  }
  calledOff.delete(id);
  try {
    const sum = await hash(id, file);
    if (sum) reply({ id, sha256: sum });
  } catch (err) {
    reply({ id, error: String(err) });
  }
};

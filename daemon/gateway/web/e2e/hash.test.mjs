// The page's own SHA-256, in the worker as it is built, against Node's.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';

const assets = path.join(path.dirname(fileURLToPath(import.meta.url)), '../dist/assets');
const source = readFileSync(path.join(assets, readdirSync(assets).find((n) => /^hash-.*\.js$/.test(n))), 'utf8');
const MiB = 1 << 20;

/** What the worker says of a file, in a world with or without WebCrypto. */
function hash(file, crypto = {}) {
  return new Promise((ok, no) => {
    const world = vm.createContext({
      crypto, Uint8Array, Int32Array, DataView, Math, Array, Set, String,
      postMessage: (r) => (r.sha256 ? ok(r.sha256) : r.error && no(new Error(r.error))),
    });
    world.globalThis = world;
    vm.runInContext(source, world);
    world.onmessage({ data: { id: 1, file } });
  });
}

test('without WebCrypto every length gives the right hash', async () => {
  for (const n of [...Array.from({ length: 130 }, (_, i) => i), 4 * MiB - 1, 4 * MiB, 4 * MiB + 1, 9 * MiB + 17]) {
    const bytes = randomBytes(n);
    assert.equal(await hash(new Blob([bytes])), createHash('sha256').update(bytes).digest('hex'), `${n} bytes`);
  }
});

test('a file beyond 2^32 bits is read in pieces and keeps little memory', async () => {
  // YUNBOX_HASH_GB makes it as large as one likes; 0.54 GB are more than 2^32 bits.
  const size = Math.round(Number(process.env.YUNBOX_HASH_GB ?? 0.54) * 1e9) + 3;
  const piece = randomBytes(4 * MiB);
  const want = createHash('sha256');
  for (let at = 0; at < size; at += piece.length) want.update(piece.subarray(0, Math.min(piece.length, size - at)));
  let largest = 0, most = 0;
  const file = {
    size,
    slice: (from, to) => ({
      arrayBuffer: async () => {
        largest = Math.max(largest, to - from);
        most = Math.max(most, process.memoryUsage().arrayBuffers);
        return Uint8Array.prototype.slice.call(piece, 0, Math.min(to, size) - from).buffer;
      },
    }),
    arrayBuffer: () => assert.fail('read in one piece'),
  };
  // With WebCrypto, too: it cannot take a file in pieces.
  assert.equal(await hash(file, { subtle: {} }), want.digest('hex'));
  assert.equal(largest, 4 * MiB);
  assert.ok(most < 256 * MiB, `${most} bytes in buffers at a time`);
});

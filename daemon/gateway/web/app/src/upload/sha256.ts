/**
 * SHA-256 (FIPS 180-4) that takes its input in pieces. WebCrypto cannot, and
 * WebAssembly would need a weaker Content-Security-Policy.
 */
const K = new Int32Array(64);
const START = new Int32Array(8);
{
  // The first bits of the fractional parts of cube and square roots of the primes.
  let n = 0;
  for (let p = 2; n < 64; p++) {
    let prime = true;
    for (let d = 2; d * d <= p; d++) if (p % d === 0) prime = false;
    if (!prime) continue;
    if (n < 8) START[n] = (Math.sqrt(p) % 1) * 4294967296;
    K[n++] = (Math.cbrt(p) % 1) * 4294967296;
  }
}

export class SHA256 {
  #h = START.slice();
  #w = new Int32Array(64);
  #block = new Uint8Array(64);
  #held = 0; // bytes in #block
  #length = 0;

  update(data: Uint8Array): this {
    this.#length += data.length;
    let at = 0;
    if (this.#held > 0) {
      at = Math.min(64 - this.#held, data.length);
      this.#block.set(data.subarray(0, at), this.#held);
      this.#held += at;
      if (this.#held < 64) return this;
      this.#compress(this.#block, 0, 64);
    }
    const end = at + ((data.length - at) & ~63);
    this.#compress(data, at, end);
    this.#block.set(data.subarray(end));
    this.#held = data.length - end;
    return this;
  }

  /** Ends the computation; the value is of no further use afterwards. */
  hex(): string {
    const bits = this.#length * 8;
    const pad = new Uint8Array(((this.#held < 56 ? 56 : 120) - this.#held) + 8);
    pad[0] = 0x80;
    const view = new DataView(pad.buffer);
    view.setUint32(pad.length - 8, Math.floor(bits / 4294967296));
    view.setUint32(pad.length - 4, bits >>> 0);
    this.update(pad);
    return Array.from(this.#h, (x) => (x >>> 0).toString(16).padStart(8, '0')).join('');
  }

  #compress(p: Uint8Array, from: number, to: number) {
    const w = this.#w, h = this.#h;
    const view = new DataView(p.buffer, p.byteOffset, p.byteLength);
    // `| 0` tells the compiler that these are 32-bit integers: twice as fast.
    let a0 = h[0]! | 0, b0 = h[1]! | 0, c0 = h[2]! | 0, d0 = h[3]! | 0, e0 = h[4]! | 0, f0 = h[5]! | 0, g0 = h[6]! | 0, h0 = h[7]! | 0;
    for (; from < to; from += 64) {
      for (let i = 0, j = from; i < 16; i++, j += 4) w[i] = view.getInt32(j);
      for (let i = 16; i < 64; i++) {
        const x = w[i - 15]!, y = w[i - 2]!;
        const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
        const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
        w[i] = (w[i - 16]! + s0 + w[i - 7]! + s1) | 0;
      }
      let a = a0, b = b0, c = c0, d = d0, e = e0, f = f0, g = g0, hh = h0;
      for (let i = 0; i < 64; i++) {
        const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
        const t1 = (hh + s1 + ((e & f) ^ (~e & g)) + K[i]! + w[i]!) | 0;
        const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
        const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
        hh = g;
        g = f;
        f = e;
        e = (d + t1) | 0;
        d = c;
        c = b;
        b = a;
        a = (t1 + t2) | 0;
      }
      a0 = (a0 + a) | 0;
      b0 = (b0 + b) | 0;
      c0 = (c0 + c) | 0;
      d0 = (d0 + d) | 0;
      e0 = (e0 + e) | 0;
      f0 = (f0 + f) | 0;
      g0 = (g0 + g) | 0;
      h0 = (h0 + hh) | 0;
    }
    h.set([a0, b0, c0, d0, e0, f0, g0, h0]);
  }
}

export const sha256 = (text: string) => new SHA256().update(new TextEncoder().encode(text)).hex();

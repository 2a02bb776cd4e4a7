// A real box for the browser tests: yunboxd on a fresh state directory.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../../..');
const tags = 'sqlite_fts5,sqlite_math_functions,sqlite_stat4,sqlite_omit_load_extension';

/** The daemon under test: $YUNBOXD, or built from this tree. */
function binary(dir) {
  if (process.env.YUNBOXD) return path.resolve(process.env.YUNBOXD);
  const out = path.join(dir, 'yunboxd');
  execFileSync('go', ['build', '-tags', tags, '-o', out, './cmd/yunboxd'], { cwd: root, stdio: 'inherit' });
  return out;
}

/**
 * A port that was free a moment ago; a box that is started again must keep its address.
 * Below those that the system gives to connections: one of them could have it by then.
 */
async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const s = net.createServer();
    const free = await new Promise((ok) => s.once('error', () => ok(false)).listen(port, '127.0.0.1', () => ok(true)));
    if (!free) continue;
    await new Promise((ok) => s.close(ok));
    return port;
  }
}

/**
 * The wire between a browser and the box: it counts what is sent and can be taken down.
 * onSent is told after each piece how many bytes have gone up so far.
 */
async function startWire(port) {
  const open = new Set();
  const wire = { sent: 0, onSent: () => {} };
  let up = true;
  let held = false;
  const server = net.createServer((near) => {
    if (!up) return near.destroy();
    if (held) near.pause();
    const far = net.connect(port, '127.0.0.1');
    for (const [one, other] of [[near, far], [far, near]]) {
      open.add(one);
      one.on('error', () => {}); // 'close' follows
      one.on('close', () => {
        open.delete(one);
        other.destroy();
      });
      one.on('drain', () => held || other.resume());
    }
    far.on('data', (d) => near.write(d) || far.pause());
    near.on('data', (d) => {
      wire.sent += d.length;
      far.write(d) || near.pause();
      wire.onSent(wire.sent);
    });
  });
  await new Promise((ok) => server.listen(0, '127.0.0.1', ok));
  wire.port = server.address().port;
  /** Ends every connection and lets none through until up: a browser may try again by itself, unseen. */
  wire.down = () => {
    up = false;
    open.forEach((s) => s.destroy());
  };
  wire.up = () => (up = true);
  /** Passes nothing more, with every connection open, until released. */
  wire.hold = () => {
    held = true;
    open.forEach((s) => s.pause());
  };
  wire.release = () => {
    held = false;
    open.forEach((s) => s.resume());
  };
  /** Waits until so many bytes have gone up from now on, and then acts at once. */
  wire.past = (bytes, act) => {
    const start = wire.sent;
    return new Promise((ok, no) => {
      wire.onSent = (sent) => {
        if (sent - start < bytes) return;
        wire.onSent = () => {};
        Promise.resolve(act()).then(ok, no);
      };
    });
  };
  wire.close = () => {
    server.close();
    wire.down();
  };
  return wire;
}

export async function startBox() {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'yunbox-e2e-'));
  const state = path.join(dir, 'state');
  const socket = path.join(state, 'run', 'yunboxd.sock');
  const exe = binary(dir);
  const port = await freePort();
  const wire = await startWire(port);
  let child = null;
  let log = '';

  const local = (method, p, body) =>
    new Promise((ok, no) => {
      const headers = body === undefined ? {} : { 'Content-Type': 'application/json' };
      const req = http.request({ socketPath: socket, path: p, method, headers }, (res) => {
        let text = '';
        res.setEncoding('utf8');
        res.on('data', (d) => (text += d));
        res.on('end', () => {
          if (res.statusCode < 300) ok(JSON.parse(text));
          else no(new Error(`${method} ${p}: ${res.statusCode} ${text}`));
        });
      });
      req.on('error', no);
      req.end(body === undefined ? undefined : JSON.stringify(body));
    });

  const box = {
    url: `https://127.0.0.1:${wire.port}`,
    wire,
    log: () => log,
    status: () => local('GET', '/local/status'),
    label: () => local('GET', '/local/label'),
    /** Has the box watch a folder of this computer for a person. */
    watch: (folder, user) => local('POST', '/local/inboxes', { path: folder, user }),
    /** A request outside the browser, as a program makes it: with an app password, or with the token of a session. */
    ask(method, p, { user, password, token, body } = {}) {
      return new Promise((ok, no) => {
        const headers = {
          ...(user ? { Authorization: 'Basic ' + Buffer.from(`${user}:${password}`).toString('base64') } : token ? { Authorization: 'Bearer ' + token } : {}),
          ...(body !== undefined && typeof body !== 'string' ? { 'Content-Type': 'application/json' } : {}),
        };
        const req = https.request(box.url + p, { method, headers, rejectUnauthorized: false }, (res) => {
          const parts = [];
          res.on('data', (d) => parts.push(d));
          res.on('end', () => ok({ status: res.statusCode, body: Buffer.concat(parts) }));
        });
        req.on('error', no);
        req.end(body === undefined || typeof body === 'string' ? body : JSON.stringify(body));
      });
    },
    async start() {
      child = spawn(exe, ['--state', state, '--https', `127.0.0.1:${port}`, '--mdns=off'], { stdio: ['ignore', 'pipe', 'pipe'] });
      for (const out of [child.stdout, child.stderr]) out.on('data', (d) => (log += d));
      const exited = new Promise((ok) => child.once('exit', ok));
      child.exited = exited;
      const deadline = Date.now() + 120_000;
      for (;;) {
        try {
          await box.status();
          return;
        } catch (e) {
          if (child.exitCode !== null || Date.now() > deadline) throw new Error(`yunboxd did not come up: ${e.message}\n${log}`);
          await new Promise((ok) => setTimeout(ok, 50));
        }
      }
    },
    /** Ends the daemon: politely, or as a power cut would. */
    async stop(signal = 'SIGTERM') {
      if (!child) return;
      child.kill(signal);
      await child.exited;
      child = null;
    },
    async remove() {
      await box.stop();
      wire.close();
      if (existsSync(dir)) rmSync(dir, { recursive: true, force: true });
    },
  };
  // A run that is broken off leaves no box behind.
  process.once('exit', () => child?.kill('SIGKILL'));
  process.once('SIGTERM', () => process.exit(1));
  process.once('SIGINT', () => process.exit(1));
  await box.start();
  return box;
}

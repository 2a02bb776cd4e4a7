// "Back up from this phone": what outlives a reload and a closed browser, and what becomes of each file.
// One story, told in order: each test goes on where the one before it stopped.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test as run } from 'node:test';
import { startBox } from './box.mjs';
import { launch, open, reopen, settled, sound, visit } from './browser.mjs';

const MiB = 1 << 20;
const CHUNK = 8 * MiB;
const lin = { username: 'lin', password: 'quiet harbour seven lamps' };
const dir = mkdtempSync(path.join(os.tmpdir(), 'yunbox-backup-'));
const phone = { viewport: { width: 390, height: 844 } };
let box, page, token;

let broken = false;
const test = (name, step) =>
  run(name, async () => {
    assert.equal(broken, false, 'an earlier step failed');
    try {
      await step();
    } catch (e) {
      broken = true;
      console.error(`--- the page:\n${await page?.locator('body').innerText().catch(() => '')}\n--- faults: ${page?.faults}\n--- the box:\n${box?.log().slice(-3000)}`);
      throw e;
    }
  });

before(async () => {
  box = await startBox();
  const secret = new URL((await box.label()).pair_uri).searchParams.get('s');
  const bound = await box.ask('POST', '/v1/bind', { body: { secret, ...lin } });
  assert.equal(bound.status, 201);
  token = JSON.parse(bound.body).token;
  const policy = JSON.parse((await box.ask('GET', '/v1/policy', { token })).body);
  assert.equal((await box.ask('PUT', '/v1/policy', { token, body: { accepted: true, revision: policy.revision } })).status, 200);
  page = await reopen(path.join(dir, 'profile'), box, phone, watch);
  await page.getByLabel('Username').fill(lin.username);
  await page.getByLabel('Password', { exact: true }).fill(lin.password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('Nothing here yet').waitFor();
});
after(async () => {
  await page?.context().close();
  await box?.remove();
  rmSync(dir, { recursive: true, force: true });
});

/** Runs in each page before its own scripts: counts files that are read, and requests to keep the screen on. */
function watch() {
  window.seen = { reads: 0, wakes: 0 };
  const post = Worker.prototype.postMessage;
  Worker.prototype.postMessage = function (m, ...rest) {
    if (m.file) window.seen.reads++;
    return post.call(this, m, ...rest);
  };
  // With this mark every handle asks the person first, as those of a real picker do after a reload.
  if (localStorage.getItem('test.ask')) {
    let allowed = false;
    FileSystemHandle.prototype.queryPermission = async () => (allowed ? 'granted' : 'prompt');
    FileSystemHandle.prototype.requestPermission = async () => {
      if (!navigator.userActivation.isActive) throw new DOMException('no tap', 'SecurityError');
      allowed = true;
      return 'granted';
    };
  }
  if (!navigator.wakeLock) return;
  navigator.wakeLock.request = async () => {
    window.seen.wakes++;
    return { release: async () => {}, onrelease: null };
  };
}

function make(name, bytes) {
  const full = path.join(dir, name);
  writeFileSync(full, typeof bytes === 'number' ? randomBytes(bytes) : bytes);
  utimesSync(full, 1_700_000_000, 1_700_000_000);
  return full;
}
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const row = (name) => page.locator('.transfer', { hasText: name });
const review = () => page.getByRole('region', { name: 'Ready to back up' });
const pick = (list) => page.locator('input[type=file]').first().setInputFiles(list);
const go = () => review().getByRole('button', { name: /^Back up \d/ }).click();
const kept = async (p) => JSON.parse((await box.ask('GET', '/v1/items?recursive=true', { token })).body).items.find((i) => i.path === p);

/** What the box has of an unfinished upload, as it tells the page that asks where to go on. */
const offset = () =>
  page.waitForResponse((r) => r.request().method() === 'HEAD' && r.url().includes('/v1/uploads/')).then((r) => Number(r.headers()['upload-offset']));

test('it says where files are from, asks for the consent that is missing, and sends nothing before', async () => { // R05 R20
  await visit(page, 'upload');
  const sent = [];
  page.on('request', (r) => /\/v1\/(uploads|files|blobs)/.test(r.url()) && sent.push(r.url()));
  await pick([make('IMG_20260501_120000.jpg', 50_000), make('mmexport1598266474988.jpg', 40_000)]);
  await review().getByText('Needs your consent: WeChat backup').waitFor();
  await review().getByRole('switch', { name: 'Phone album backup' }).click();
  await review().getByRole('switch', { name: 'Phone album backup' }).waitFor({ state: 'detached' });
  await sound(page, 'review on a phone');
  assert.deepEqual(sent, []);
  await go();
  await row('IMG_20260501_120000.jpg').getByText('Stored').waitFor();
  // Only for this device, and WeChat waits for its own.
  const { consents } = JSON.parse((await box.ask('GET', '/v1/consents', { token })).body);
  assert.deepEqual(consents.filter((c) => c.granted && c.purpose.endsWith('_backup')).map((c) => [c.purpose, c.device !== null]), [['album_backup', true]]);
  await review().getByText('1 file waits until you allow it').waitFor();
  assert.equal(await kept('mmexport1598266474988.jpg'), undefined);
  await review().getByRole('button', { name: 'Cancel' }).click();
});

test('a reload in the middle: the same file chosen again goes on, and is not read again', async () => {
  const film = make('VID_20260501_130000.mp4', 24 * MiB);
  const cut = box.wire.past(14 * MiB, () => page.reload());
  await pick([film]);
  await go();
  await cut;
  await settled(page);
  await page.getByText('1 file of your backup is not finished').waitFor();
  await page.getByText('Waiting for you to choose it again').waitFor();
  await sound(page, 'an interrupted backup');
  const before = box.wire.sent;
  const from = offset();
  await pick([film]);
  const missing = 24 * MiB - (await from);
  await row('VID_20260501_130000.mp4').getByText('Stored').waitFor();
  const sent = box.wire.sent - before;
  assert.ok(missing < 18 * MiB, `${missing} bytes were missing after the reload`);
  assert.ok(sent <= missing + CHUNK, `${sent} bytes were sent for ${missing} that were missing`);
  assert.equal(await page.evaluate(() => window.seen.reads), 0);
  assert.equal((await kept('VID_20260501_130000.mp4')).sha256, sha256(readFileSync(film)));
});

test('a file chosen again with another time, as an iPhone gives it, is read again and goes on', async () => {
  const film = make('IMG_0002.MOV', 12 * MiB);
  const cut = box.wire.past(4 * MiB, () => page.reload());
  await pick([film]);
  await go();
  await cut;
  await settled(page);
  await row('IMG_0002.MOV').getByText('Waiting for you to choose it again').waitFor();
  utimesSync(film, 1_700_000_500, 1_700_000_500);
  const before = box.wire.sent;
  const from = offset();
  await pick([film]);
  const missing = 12 * MiB - (await from);
  await row('IMG_0002.MOV').getByText('Stored').waitFor();
  assert.ok(missing < 12 * MiB && box.wire.sent - before <= missing + CHUNK, `${box.wire.sent - before} bytes for ${missing}`);
  assert.equal(await page.evaluate(() => window.seen.reads), 1);
  assert.equal(new Date((await kept('IMG_0002.MOV')).mtime).getTime(), 1_700_000_000_000); // the time that was said first
});

test('a file that changes while it is sent is not stored half old, half new', async () => {
  const { wire } = box;
  const film = make('IMG_0003.MOV', 20 * MiB);
  const held = wire.past(5 * MiB, () => wire.hold());
  await pick([film]);
  await go();
  await held;
  const fresh = randomBytes(20 * MiB);
  writeFileSync(film, fresh);
  wire.release();
  await row('IMG_0003.MOV').getByText('The file cannot be read (any more).').waitFor();
  await pick([film]);
  await row('IMG_0003.MOV').getByText('Stored').waitFor();
  assert.equal((await kept('IMG_0003.MOV')).sha256, sha256(fresh));
});

/**
 * Makes the browser's picker give a new file, and returns its hash. It lies on the browser's own disk and has
 * the same kind of handle as one from a picker; no picker can be driven here.
 */
const offer = (name, size) =>
  page.evaluate(async ([name, size]) => {
    const handle = await (await navigator.storage.getDirectory()).getFileHandle(name, { create: true });
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
    const w = await handle.createWritable();
    await w.write(bytes);
    await w.close();
    window.showOpenFilePicker = async () => [handle];
    return Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)), (b) => b.toString(16).padStart(2, '0')).join('');
  }, [name, size]);

test('a closed browser: what it may read again goes on by itself', async () => {
  const hash = await offer('VID_20260502_140000.mp4', 24 * MiB);
  const cut = box.wire.past(14 * MiB, () => page.context().close());
  await page.getByRole('button', { name: 'Choose photos and videos' }).click();
  await go();
  await cut;
  const before = box.wire.sent;
  page = await reopen(path.join(dir, 'profile'), box, phone, watch, 'upload');
  const missing = 24 * MiB - (await offset());
  await row('VID_20260502_140000.mp4').getByText('Stored').waitFor();
  const sent = box.wire.sent - before;
  assert.ok(missing < 18 * MiB, `${missing} bytes were missing in the new browser`);
  assert.ok(sent <= missing + CHUNK, `${sent} bytes were sent for ${missing} that were missing`);
  assert.equal((await kept('VID_20260502_140000.mp4')).sha256, hash);
  // What was done before is still told, and the screen was kept on.
  await row('VID_20260501_130000.mp4').getByText('Stored').waitFor();
  assert.ok(await page.evaluate(() => window.seen.wakes) > 0);
});

test('a reload where the browser must ask: one tap goes on, and another tab waits its turn', async () => {
  const hash = await offer('VID_20260502_150000.mp4', 16 * MiB);
  await page.evaluate(() => localStorage.setItem('test.ask', '1'));
  const cut = box.wire.past(6 * MiB, () => page.reload());
  await page.getByRole('button', { name: 'Choose photos and videos' }).click();
  await go();
  await cut;
  await settled(page);
  await row('VID_20260502_150000.mp4').getByText('Waiting for your permission').waitFor();
  const other = await page.context().newPage();
  await other.goto(box.url + '/#/upload');
  await other.getByText('Another tab of this browser is at work').waitFor();
  assert.equal(await other.locator('.transfer').count(), 0);
  await other.close();
  await page.getByRole('button', { name: 'Go on', exact: true }).click();
  await row('VID_20260502_150000.mp4').getByText('Stored').waitFor();
  assert.equal((await kept('VID_20260502_150000.mp4')).sha256, hash);
  await page.evaluate(() => localStorage.removeItem('test.ask'));
});

test('the screen is kept on again when the page comes back', async () => {
  const { wire } = box;
  const film = make('VID_20260503_150000.mp4', 12 * MiB);
  const held = wire.past(MiB, () => wire.hold());
  await pick([film]);
  await go();
  await held;
  const turn = (state) => page.evaluate((s) => {
    Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => s });
    document.dispatchEvent(new Event('visibilitychange'));
  }, state);
  const before = await page.evaluate(() => window.seen.wakes);
  await turn('hidden');
  await turn('visible');
  assert.equal(await page.evaluate(() => window.seen.wakes), before + 1);
  wire.release();
  await row('VID_20260503_150000.mp4').getByText('Stored').waitFor();
});

test('another content under a name of the box gets a number, and hides nothing', async () => {
  const first = await kept('IMG_20260501_120000.jpg');
  await pick([make('IMG_20260501_120000.jpg', 60_000)]);
  await go();
  await row('60 kB').getByText('Stored').waitFor();
  assert.equal((await kept('IMG_20260501_120000.jpg')).sha256, first.sha256);
  assert.equal((await kept('IMG_20260501_120000 (2).jpg')).size, 60_000);
});

test('what its owner deleted is declined and says when; all of it comes back with one tap', async () => { // R27
  const list = [make('IMG_20260504_090000.jpg', 70_000), make('IMG_20260504_090001.jpg', 71_000)];
  await pick(list);
  await go();
  for (const f of list) {
    await row(path.basename(f)).getByText('Stored').waitFor();
    assert.equal((await box.ask('DELETE', '/v1/files/' + path.basename(f), { token })).status, 204);
  }
  const before = box.wire.sent;
  await pick(list);
  await go();
  await page.locator('.counts').getByText('2 declined').waitFor();
  assert.ok(box.wire.sent - before < 70_000, 'declined without a body');
  assert.match(await row('IMG_20260504_090000.jpg').innerText(), /You deleted this from the box on /);
  await sound(page, 'declined');
  // The device's history says so, too.
  await page.getByText('What this device has offered').click();
  await page.getByRole('button', { name: 'Declined', exact: true }).click();
  const history = page.locator('details', { hasText: 'What this device has offered' });
  await history.locator('.tag', { hasText: 'Stored' }).first().waitFor({ state: 'detached' });
  assert.deepEqual((await history.locator('.file-name').allInnerTexts()).sort(), list.map((f) => path.basename(f)));
  await sound(page, 'history');
  await page.getByRole('button', { name: 'Back up all 2 again' }).click();
  for (const f of list) await row(path.basename(f)).locator('small', { hasText: /Stored|Already here/ }).first().waitFor();
  assert.ok(await kept('IMG_20260504_090000.jpg'));
});

test('the proof tells what is on the disk and when it was read back, signed', async () => {
  await page.getByRole('button', { name: /^Check \d+ files$/ }).click();
  await page.getByText(/^\d+ files are on the box\.$/).waitFor();
  await page.getByRole('button', { name: 'Read every byte back now' }).click();
  await page.getByText(/^Every byte was last read back and compared on .*20\d\d\.$/).waitFor();
  await sound(page, 'proof');
  const [saved] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Save signed proof' }).click()]);
  const receipts = readFileSync(await saved.path(), 'utf8').trim().split('\n').map((jws) => JSON.parse(Buffer.from(jws.split('.')[1], 'base64url')));
  assert.equal(receipts[0].schema_version, 'yunbox-storage-receipt/1');
  const items = receipts.flatMap((r) => r.items);
  assert.ok(items.length >= 6 && items.every((i) => i.state === 'stored' && i.checked === 'read'), JSON.stringify(items));
});

test('nothing at the end of the page lies below the tabs', async () => {
  for (const where of ['upload', 'account']) {
    await visit(page, where);
    const [end, tabs] = await page.evaluate(() => {
      scrollTo(0, document.documentElement.scrollHeight);
      const below = [...document.querySelectorAll('main button, main a, main input, main summary')].map((e) => e.getBoundingClientRect().bottom);
      return [Math.max(...below), document.querySelector('.nav').getBoundingClientRect().top];
    });
    assert.ok(end <= tabs, `${where}: ${end} is below ${tabs}`);
  }
});

test('for how long deletions count is the person\'s choice', async () => {
  await page.getByLabel('For how many days').fill('30');
  await page.locator('.card', { hasText: 'For how many days' }).getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved.').waitFor();
  assert.equal(JSON.parse((await box.ask('GET', '/v1/me', { token })).body).decline_deleted_days, 30);
  await page.reload();
  await settled(page);
  assert.equal(await page.getByLabel('For how many days').inputValue(), '30');
});

test('signing out leaves no name of a file in the browser', async () => {
  const names = () => page.evaluate(() => new Promise((ok, no) => {
    const r = indexedDB.open('yunbox', 1);
    r.onerror = no;
    r.onsuccess = () => {
      const all = r.result.transaction('files').objectStore('files').getAll();
      all.onsuccess = () => ok(all.result.map((x) => x.path));
    };
  }));
  assert.ok((await names()).includes('IMG_20260501_120000.jpg'));
  await page.getByRole('button', { name: 'Sign out', exact: true }).click();
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  assert.deepEqual(await names(), []);
  assert.deepEqual(page.faults, []);
});

test('without WebCrypto, locks and a place to remember it still arrives whole; in Chinese, on an iPhone', async () => {
  await page.context().close();
  const browser = await launch();
  try {
    const poor = () => {
      Object.defineProperty(Crypto.prototype, 'subtle', { get: () => undefined });
      Object.defineProperty(Navigator.prototype, 'locks', { get: () => undefined });
      Object.defineProperty(Navigator.prototype, 'wakeLock', { get: () => undefined });
      Object.defineProperty(window, 'indexedDB', { get: () => { throw new Error('closed'); } });
      delete window.showOpenFilePicker;
      delete window.showDirectoryPicker;
    };
    page = await open(browser, box, {
      ...phone, locale: 'zh-CN', colorScheme: 'dark',
      userAgent: 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1',
    }, async (context) => {
      await context.addInitScript(poor);
      // A worker has a world of its own.
      await context.route('**/assets/hash-*.js', async (route) => {
        const answer = await route.fetch();
        await route.fulfill({ response: answer, body: "Object.defineProperty(Crypto.prototype, 'subtle', { get: () => undefined });\n" + (await answer.text()) });
      });
    });
    await page.getByLabel('用户名').fill(lin.username);
    await page.getByLabel('密码', { exact: true }).fill(lin.password);
    await page.getByRole('button', { name: '登录' }).click();
    await page.getByRole('link', { name: '备份' }).click();
    await page.getByRole('heading', { name: '备份这部手机' }).waitFor();
    await page.getByText('iPhone 在选择照片时会把 HEIC 转成 JPEG').waitFor();
    await page.getByText('此浏览器无法自动做到').waitFor();
    await sound(page, 'the page in Chinese');
    const photo = make('IMG_0007.HEIC', 3 * MiB + 5);
    await pick([photo]);
    const ready = page.getByRole('region', { name: '准备备份' });
    await ready.getByText('需要你的同意：手机相册备份').waitFor();
    await ready.getByRole('switch').click();
    await ready.getByRole('button', { name: '备份 1 个文件' }).click();
    await row('IMG_0007.HEIC').getByText('已保存').waitFor();
    assert.equal((await kept('手机/IMG_0007.HEIC')).sha256, sha256(readFileSync(photo)));
    assert.deepEqual(page.faults, []);
  } finally {
    await browser.close();
  }
});

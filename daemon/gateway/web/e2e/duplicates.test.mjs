// Finding and folding duplicates in folders of the box's own computer.
// One story, told in order: each test goes on where the one before it stopped.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test as run } from 'node:test';
import { startBox } from './box.mjs';
import { launch, open, settled, sound, visit } from './browser.mjs';

const lin = { username: 'lin', password: 'quiet harbour seven lamps' };
const mei = { username: 'mei', password: 'paper boats on the river' };
const dir = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'yunbox-dups-')));
const photos = path.join(dir, 'photos'), films = path.join(dir, 'films');
let box, browser, page, token, state;

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
  [box, browser] = await Promise.all([startBox(), launch()]);
  const secret = new URL((await box.label()).pair_uri).searchParams.get('s');
  token = JSON.parse((await box.ask('POST', '/v1/bind', { body: { secret, ...lin } })).body).token;
  const policy = JSON.parse((await box.ask('GET', '/v1/policy', { token })).body);
  assert.equal((await box.ask('PUT', '/v1/policy', { token, body: { accepted: true, revision: policy.revision } })).status, 200);
  assert.equal((await box.ask('POST', '/v1/users', { token, body: mei })).status, 201);
  page = await open(browser, box);
  await makePhotos();
  // Two films that differ nowhere before their middle: reading them takes a while.
  mkdirSync(films);
  for (const n of [1, 2, 3, 4]) {
    const film = path.join(films, `film${n}.mp4`);
    writeFileSync(film, '');
    truncateSync(film, 8 * 1024 ** 3);
    utimesSync(film, 1_700_000_000, 1_700_000_000);
  }
  await box.watch(photos, lin.username);
  await box.watch(films, lin.username);
  await page.getByLabel('Username').fill(lin.username);
  await page.getByLabel('Password', { exact: true }).fill(lin.password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('Nothing here yet').waitFor();
  state = await page.context().storageState();
});
after(async () => {
  await browser?.close();
  await box?.remove();
  rmSync(dir, { recursive: true, force: true });
});

function put(name, bytes, when) {
  const full = path.join(photos, name);
  mkdirSync(path.dirname(full), { recursive: true });
  writeFileSync(full, bytes);
  utimesSync(full, when, when);
}

/** Real pictures, as a browser draws them: one in two sizes, and files of one content under several names. */
async function makePhotos() {
  const draw = (width, quality) =>
    page.evaluate(([w, q]) => {
      const c = document.createElement('canvas');
      [c.width, c.height] = [w, (w * 3) / 4];
      const g = c.getContext('2d');
      const sky = g.createLinearGradient(0, 0, 0, c.height);
      sky.addColorStop(0, '#234a7d');
      sky.addColorStop(1, '#f3c98b');
      g.fillStyle = sky;
      g.fillRect(0, 0, c.width, c.height);
      g.fillStyle = '#20352c';
      for (let i = 0; i < 9; i++) {
        g.beginPath();
        g.arc(((i * 37) % 100) * w / 100, c.height * (0.9 + (i % 3) / 15), w / (6 + (i % 4)), 0, 7);
        g.fill();
      }
      g.fillStyle = '#fff4d6';
      g.beginPath();
      g.arc(w * 0.72, c.height * 0.3, w / 14, 0, 7);
      g.fill();
      return c.toDataURL('image/jpeg', q).split(',')[1];
    }, [width, quality]).then((b) => Buffer.from(b, 'base64'));
  const large = await draw(1600, 0.95);
  put('2024/IMG_0412.jpg', large, 1_700_000_000);
  put('WeChat/mmexport1598266474988.jpg', await draw(800, 0.6), 1_700_500_000);
  put('old phone/IMG_0412 (1).jpg', large, 1_701_000_000);
  put('old phone/backup/旅行 海边.jpg', large, 1_702_000_000);
  for (const [name, size] of [['VID_0007.mp4', 900_000], ['note.pdf', 70_000], ['song.m4a', 300_000]]) {
    const bytes = randomBytes(size);
    put('2024/' + name, bytes, 1_700_000_100);
    put('old phone/' + name, bytes, 1_701_000_100);
  }
  put('2024/alone.pdf', randomBytes(5000), 1_700_000_000);
}

/** Every file of the photos by its content, without what the box keeps there for itself. */
function world(at = photos, list = {}) {
  for (const e of readdirSync(at, { withFileTypes: true })) {
    const full = path.join(at, e.name);
    if (e.isDirectory()) world(full, list);
    else if (!e.name.startsWith('.yunbox')) list[path.relative(photos, full)] = createHash('sha256').update(readFileSync(full)).digest('hex') + ' ' + statSync(full).mtimeMs;
  }
  return list;
}

const region = (name, p = page) => p.getByRole('region', { name, exact: true });
const pick = (folder) => page.getByRole('radio', { name: folder }).check();
const lookButton = () => page.getByRole('button', { name: 'Look for duplicates' });
const withdraw = () => box.ask('DELETE', '/v1/consents/file_dedup', { token });

test('nothing is looked at before the consent, which is asked for in place and never pre-ticked', async () => { // R20 R22
  const asked = [];
  page.on('request', (r) => /duplicates\/(scan|plan|apply)$/.test(r.url()) && asked.push(r.url()));
  await visit(page, 'storage');
  await page.getByRole('link', { name: 'Find duplicates' }).click();
  await region('Finding duplicates').waitFor();
  assert.equal(await page.locator('input[type=checkbox]:checked').count(), 0);
  assert.equal(await lookButton().count(), 0);
  await sound(page, 'duplicates without consent');
  assert.equal((await box.ask('POST', '/v1/duplicates/plan', { token, body: { path: photos, action: 'trash' } })).status, 403);
  await region('Finding duplicates').getByRole('button', { name: 'Allow it' }).click();
  await lookButton().waitFor();
  assert.equal(await page.locator('input[type=checkbox]:checked').count(), 0);
  assert.deepEqual(asked, []);
});

test('progress is on every page, and withdrawing the consent stops the look at once', async () => { // R22
  await pick(films);
  await lookButton().click();
  await page.getByRole('heading', { name: 'Reading files that may be equal' }).waitFor();
  await region('The box is at work').getByText(/of 34\.4 GB/).waitFor();
  await sound(page, 'duplicates at work');
  await visit(page, 'files');
  await page.getByRole('link', { name: 'Reading files that may be equal' }).waitFor();
  await withdraw();
  await page.locator('.work-bar').waitFor({ state: 'detached' });
  await visit(page, 'duplicates');
  await page.getByText('your consent to finding duplicates is off').waitFor();
  await region('Finding duplicates').getByRole('button', { name: 'Allow it' }).click();
  await lookButton().waitFor();
  assert.equal(await page.getByText('your consent to finding duplicates is off').count(), 0);
});

test('the person can stop it', async () => {
  await pick(films);
  await lookButton().click();
  await page.getByRole('heading', { name: 'Reading files that may be equal' }).waitFor();
  await page.getByRole('button', { name: 'Stop' }).click();
  await region('The box is at work').waitFor({ state: 'detached' });
  assert.equal(await page.getByRole('alert').count(), 0);
});

test('it says what is the same and what only looks alike, which nothing touches', async () => {
  await pick(photos);
  await page.getByLabel('Also suggest pictures that look alike').check();
  await lookButton().click();
  await region('What was found').getByText('5 files are the same as others').waitFor();
  await region('What was found').getByText(/could be freed/).waitFor();
  const alike = region('Pictures that look alike');
  await alike.getByText('1 of 2 pictures looks like a better one').waitFor();
  await alike.locator('summary').first().click();
  await alike.locator('.look img').nth(1).waitFor();
  assert.ok(await alike.locator('.look img').first().evaluate(async (i) => (await i.decode(), i.naturalWidth)) >= 800);
  assert.equal(await alike.getByRole('button').count(), 0);
  await region('The same files').locator('summary', { hasText: 'IMG_0412' }).click();
  await sound(page, 'what was found');
});

test('in Chinese on a phone', async () => {
  const phone = await open(browser, box, { storageState: state, locale: 'zh-CN', viewport: { width: 390, height: 844 } });
  await settled(phone); // where the person was comes first
  await visit(phone, 'duplicates');
  await phone.getByRole('radio', { name: photos }).check();
  await phone.getByRole('button', { name: '开始查找' }).click();
  await phone.getByText('5 个文件与其他文件相同').waitFor();
  await phone.locator('.group summary').first().click();
  await sound(phone, 'duplicates on a phone in Chinese');
  assert.deepEqual(phone.faults, []);
  await phone.context().close();
});

test('the person chooses what stays, is asked once more, and can take all of it back', async () => { // R20
  const before = world();
  const groups = region('The same files');
  await groups.getByRole('radio', { name: 'old phone/IMG_0412 (1).jpg' }).check();
  await groups.locator('summary', { hasText: 'note.pdf' }).click();
  await groups.locator('.group', { hasText: 'note.pdf' }).getByRole('radio', { name: 'Keep all of these' }).check();
  await page.getByRole('button', { name: 'Continue' }).click();
  const sure = page.getByRole('dialog', { name: 'Do this?' });
  await sure.getByText('4 files').first().waitFor();
  await sure.getByRole('button', { name: 'Cancel' }).click();
  assert.deepEqual(world(), before);
  await page.getByRole('button', { name: 'Continue' }).click();
  await sure.getByRole('button', { name: 'Move 4 files' }).click();
  const done = region('Done');
  await done.getByText('4 files were moved to the trash folder').waitFor();
  await sound(page, 'what was done');

  const now = world();
  assert.equal(Object.keys(now).filter((n) => n.startsWith('.yunbox-trash/')).length, 4);
  assert.ok(now['old phone/IMG_0412 (1).jpg'] && !now['2024/IMG_0412.jpg'] && !now['old phone/backup/旅行 海边.jpg']);
  assert.ok(now['2024/note.pdf'] && now['old phone/note.pdf']);
  assert.ok(now['2024/VID_0007.mp4'] && !now['old phone/VID_0007.mp4']); // the oldest
  assert.ok(now['WeChat/mmexport1598266474988.jpg']);

  // Undoing needs no consent: it only gives back.
  await withdraw();
  await page.reload();
  await settled(page);
  await pick(photos);
  await region('What was done here').getByRole('button', { name: /^Undo/ }).first().click();
  await done.getByText('4 files are as before').waitFor();
  assert.deepEqual(world(), before);
});

test('another person sees none of it', async () => { // R20
  const theirs = JSON.parse((await box.ask('POST', '/v1/session', { body: mei })).body).token;
  assert.deepEqual(JSON.parse((await box.ask('GET', '/v1/duplicates/folders', { token: theirs })).body).folders, []);
  for (const verb of ['plan', 'undo', 'plans', 'picture']) {
    const r = await box.ask('POST', '/v1/duplicates/' + verb, { token: theirs, body: { path: photos } });
    assert.equal(r.status, 403, verb);
  }
  assert.deepEqual(page.faults, []);
});

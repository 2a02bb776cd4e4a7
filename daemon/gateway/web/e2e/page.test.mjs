// The admin page in a real browser against a real box that starts unbound.
// One story, told in order: each test goes on where the one before it stopped.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test as run } from 'node:test';
import { startBox } from './box.mjs';
import { launch, open, settled, sound, visit } from './browser.mjs';

const MiB = 1 << 20;
const owner = { name: 'lin', password: 'quiet harbour seven lamps', fresh: 'eleven slow green kettles' };
const member = { name: 'mei', password: 'paper boats on the river' };
const files = mkdtempSync(path.join(os.tmpdir(), 'yunbox-files-'));
let box, browser, page;

/** One step of the story; after a broken one the rest would only wait in vain. */
let broken = false;
const test = (name, step) =>
  run(name, async () => {
    assert.equal(broken, false, 'an earlier step failed');
    try {
      await step();
    } catch (e) {
      broken = true;
      console.error(`--- the page:\n${await page?.locator('body').innerText()}\n--- faults: ${page?.faults}\n--- the box:\n${box?.log().slice(-3000)}`);
      throw e;
    }
  });

before(async () => {
  [box, browser] = await Promise.all([startBox(), launch()]);
});
after(async () => {
  await browser?.close();
  await box?.remove();
  rmSync(files, { recursive: true, force: true });
});

/** A file on disk; its bytes are random unless given. */
function make(name, bytes) {
  const full = path.join(files, name);
  mkdirSync(path.dirname(full), { recursive: true });
  writeFileSync(full, typeof bytes === 'number' ? randomBytes(bytes) : bytes);
  utimesSync(full, 1_700_000_000, 1_700_000_000);
  return full;
}
const sha256 = (file) => createHash('sha256').update(readFileSync(file)).digest('hex');

const ask = (...of) => box.ask(...of);
const row = (name) => page.locator('.transfer', { hasText: name });
const toggle = (name) => page.getByRole('switch', { name, exact: true });
const pick = (list) => page.getByLabel('Choose files').and(page.locator('input')).setInputFiles(list);
/** Chooses files as a person does, and says where all of them are from. */
async function choose(list, source) {
  await pick(list);
  const review = page.getByRole('region', { name: 'Ready to back up' });
  await review.locator('.lines').waitFor();
  for (const select of await review.getByRole('combobox').all()) await select.selectOption(source);
  await review.getByRole('button', { name: /^Back up/ }).click();
}
/** The same, and waits until each row says what became of it. */
async function upload(list, became, source) {
  await visit(page, 'upload');
  await choose(list, source);
  for (const f of list) await row(path.basename(f)).locator('small', { hasText: became }).first().waitFor();
}
async function signIn(p, name, password) {
  await p.getByLabel('Username').fill(name);
  await p.getByLabel('Password', { exact: true }).fill(password);
  await p.getByRole('button', { name: 'Sign in' }).click();
}
const errorText = (p) => p.getByRole('alert').innerText();

test('first run: the six words are those of the box, nothing is pre-ticked', async () => { // R03 R20 R31
  page = await open(browser, box);
  await page.getByRole('heading', { name: 'Make this box yours' }).waitFor();
  assert.deepEqual(await page.locator('.words li').allInnerTexts(), (await box.status()).words);
  assert.equal(await page.locator('input[type=checkbox], input[type=radio]').count(), 0);
  assert.equal(await page.getByLabel('Verification code').count(), 0); // before somebody has compared them
  await page.getByRole('button', { name: 'They are the same words' }).click();
  await page.getByText('Read the privacy policy').click();
  await page.locator('.policy h3').first().waitFor();
  await sound(page, 'first run');
  const phone = await open(browser, box, { locale: 'zh-CN', colorScheme: 'dark', viewport: { width: 360, height: 740 } });
  await phone.getByRole('heading', { name: '认领这台盒子' }).waitFor();
  await phone.getByRole('button', { name: '这些词完全一致' }).click();
  await sound(phone, 'first run on a phone in Chinese');
  assert.deepEqual(phone.faults, []);
  await phone.context().close();
});

test('first run: a wrong code and a weak password are refused in words', async () => { // R03 R36
  const label = await box.label();
  await page.getByLabel('Serial number').fill(label.serial);
  await page.getByLabel('Verification code').fill(label.code === '00000000' ? '00000001' : '00000000');
  await page.getByLabel('Username').fill(owner.name);
  await page.getByLabel('Password', { exact: true }).fill('12345678');
  await page.getByText('Too simple').waitFor();
  await page.getByRole('button', { name: 'Make it mine' }).click();
  assert.match(await errorText(page), /password/i);
  await page.getByLabel('Password', { exact: true }).fill(owner.password);
  await page.getByRole('button', { name: 'Make it mine' }).click();
  await page.getByRole('alert').filter({ hasText: /code/i }).waitFor();
  assert.equal((await box.status()).bound, false);
});

test('binding spends the code; the policy and every purpose come next, all off', async () => { // R03 R04 R20
  await page.getByLabel('Verification code').fill((await box.label()).code);
  await page.getByRole('button', { name: 'Make it mine' }).click();
  await page.getByRole('heading', { name: 'What may the box do?' }).waitFor();
  await settled(page);
  assert.equal((await box.label()).spent, true);
  assert.ok((await page.getByRole('switch').count()) >= 4);
  assert.equal(await page.locator('input:checked').count(), 0);
  await sound(page, 'welcome');

  await page.getByRole('button', { name: 'Accept' }).click();
  await page.getByText('Please tick the box first').waitFor();
  await page.getByRole('button', { name: 'Go to my files' }).click();
  await page.getByText('Nothing here yet').waitFor();
});

test('without consent nothing of a file is sent, and the page leads to the switch', async () => { // R05 R20
  const photo = make('IMG_0001.HEIC', 300_000);
  const sent = [];
  page.on('request', (r) => /\/v1\/(uploads|files|blobs)/.test(r.url()) && sent.push(r.url()));
  await visit(page, 'upload');
  await pick([photo]);
  const review = page.getByRole('region', { name: 'Ready to back up' });
  await review.getByText('Needs your consent: Phone album backup').waitFor();
  assert.equal(await review.getByRole('button', { name: /^Back up/ }).count(), 0);
  await sound(page, 'a review that asks for consent');
  assert.deepEqual(sent, []);
  await review.getByRole('link', { name: 'All about it' }).click();
  await page.locator('.purpose.wanted').getByRole('switch').click();
  await page.locator('.purpose.wanted .tag', { hasText: 'On' }).waitFor();
  assert.equal(await page.getByRole('switch', { checked: true }).count(), 1);
  await visit(page, 'upload');
  await review.getByRole('button', { name: 'Back up 1 file' }).click();
  await row('IMG_0001.HEIC').getByText('Stored').waitFor();
});

test('accepting the policy needs a tick; its receipt can be read and kept', async () => { // R20 R23
  await visit(page, 'consents');
  await page.getByLabel('have read the privacy policy').check();
  await page.getByRole('button', { name: 'Accept' }).click();
  await page.getByText('Accepted', { exact: true }).waitFor();
  await page.locator('li', { hasText: 'Keeping your files' }).getByRole('button', { name: 'View' }).click();
  await page.getByText('The receipt as it was signed').click();
  const shown = JSON.parse(await page.locator('dialog pre').innerText());
  assert.equal(shown.purpose.id, 'storage');
  assert.equal(shown.event.state, 'granted');
  const [saved] = await Promise.all([page.waitForEvent('download'), page.getByRole('dialog').getByRole('button', { name: 'Download receipt' }).click()]);
  assert.deepEqual(JSON.parse(readFileSync(await saved.path(), 'utf8')), shown);
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });

  // For one device and not for the others.
  const qq = page.locator('.purpose', { hasText: 'QQ backup' });
  await qq.getByText('Decide for each device').click();
  await qq.locator('.device-row').getByRole('switch').click();
  await qq.locator('.device-row').getByRole('switch', { checked: true }).waitFor();
  assert.equal(await toggle('QQ backup').isChecked(), false);
});

test('a second upload of the same content sends nothing and says so', async () => { // R05 R13
  const first = make('a/same.bin', 700_000);
  await upload([first], 'Stored', 'other');
  const sent = [];
  page.on('request', (r) => /\/v1\/(uploads|files)/.test(r.url()) && sent.push([r.method(), r.postDataBuffer()?.length ?? 0]));
  const copy = make('b/copy of same.bin', readFileSync(first));
  await upload([copy], 'Already here', 'other');
  assert.deepEqual(sent, [['PUT', 0]]);
});

test('empty files, odd names and dropped files arrive as they are', async () => {
  const odd = [make('empty.txt', 0), make("a b#c%d&e+f;g=h'i[j].txt", 10), make('微信图片 😀.txt', 11), make('cafe\u0301.txt', 12)];
  await upload(odd, 'Stored', 'other');
  await visit(page, 'files');
  const drop = await page.evaluateHandle(() => {
    const d = new DataTransfer();
    d.items.add(new File(['dropped'], 'dropped.txt', { lastModified: 1e12 }));
    return d;
  });
  await page.locator('.drop-area').dispatchEvent('drop', { dataTransfer: drop });
  await row('dropped.txt').getByText('Stored').waitFor();
  await visit(page, 'files');
  for (const name of ['empty.txt', "a b#c%d&e+f;g=h'i[j].txt", '微信图片 😀.txt', 'caf\u00e9.txt', 'dropped.txt']) {
    const [saved] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Download ' + name, exact: true }).click()]);
    const from = odd.find((f) => path.basename(f).normalize('NFC') === name);
    assert.deepEqual(readFileSync(await saved.path()), from ? readFileSync(from) : Buffer.from('dropped'), name);
  }
});

test('a cancelled upload leaves nothing behind', async () => {
  await page.route('**/v1/uploads/*', (route) => (route.request().method() === 'PATCH' ? route.abort('connectionreset') : route.continue()));
  await visit(page, 'upload');
  await choose([make('unwanted.bin', 9 * MiB)], 'other');
  await row('unwanted.bin').getByText('Connection lost').waitFor();
  const [gone] = await Promise.all([
    page.waitForResponse((r) => r.request().method() === 'DELETE' && r.url().includes('/v1/uploads/')),
    page.getByRole('button', { name: 'Cancel unwanted.bin' }).click(),
  ]);
  assert.equal(gone.status(), 204);
  await row('unwanted.bin').waitFor({ state: 'detached' });
  await page.unroute('**/v1/uploads/*');
});

test('a large file goes on where it stopped: after a cut, a dead box and a reload', async () => {
  const big = make('big.bin', 34 * MiB); // more than the worker reads in one piece
  const { wire } = box;
  const start = wire.sent;
  await visit(page, 'upload');
  const cut = wire.past(12 * MiB, () => wire.down());
  await choose([big], 'other');
  await cut;
  await row('big.bin').getByText('Connection lost').waitFor();
  wire.up();
  await wire.past(20 * MiB - (wire.sent - start), () => box.stop('SIGKILL'));
  await row('big.bin').getByText('Connection lost').waitFor();
  const paused = wire.past(MiB, () => wire.hold());
  await box.start();
  await page.evaluate(() => dispatchEvent(new Event('online'))); // as when a phone is back in the Wi-Fi: no waiting
  await paused;
  await page.getByRole('button', { name: 'Pause big.bin' }).click();
  await row('big.bin').getByText('Paused').waitFor();
  wire.release();

  await page.reload();
  await settled(page);
  await page.getByText('1 file of your backup is not finished').waitFor();
  await pick([big]);
  await row('big.bin').getByText('Stored').waitFor();
  // The file, and for each of the three interruptions at most the chunk that was on its way.
  const sent = wire.sent - start;
  assert.ok(sent > 34 * MiB && sent <= 34 * MiB + 3 * 8 * MiB, `${sent} bytes were sent`);
  const [saved] = await Promise.all([
    page.waitForEvent('download'),
    visit(page, 'files').then(() => page.getByRole('link', { name: 'Download big.bin' }).click()),
  ]);
  assert.equal(sha256(await saved.path()), sha256(big));
});

test('switching a purpose off stops the upload in the middle', async () => { // R22
  const clip = make('clip.mp4', 24 * MiB);
  let hold;
  const held = new Promise((ok) => (hold = ok));
  let letGo;
  const go = new Promise((ok) => (letGo = ok));
  await page.route('**/v1/uploads/*', async (route) => {
    if (route.request().method() === 'PATCH') {
      hold();
      await go;
    }
    await route.continue();
  });
  await visit(page, 'upload');
  await choose([clip], 'album');
  await held;
  await visit(page, 'consents');
  await toggle('Phone album backup').click();
  await page.locator('.purpose', { hasText: 'Phone album backup' }).getByText('Withdrawn').waitFor();
  letGo();
  await visit(page, 'upload');
  await row('clip.mp4').getByText('Refused').waitFor();
  await page.unroute('**/v1/uploads/*');
  await visit(page, 'files');
  assert.equal(await page.getByText('clip.mp4').count(), 0);
});

test('folders, pages of a listing, trash and back', async () => { // R26 R27
  const many = Array.from({ length: 103 }, (_, i) => make(`many/note ${String(i).padStart(3, '0')}.txt`, `note ${i}\n`));
  await page.getByRole('link', { name: 'Back up' }).first().click();
  await page.getByRole('button', { name: 'Clear finished' }).click();
  await visit(page, 'upload/Notes/2026 年');
  await choose(many, 'other');
  await page.getByRole('heading', { name: 'All done' }).waitFor();

  await visit(page, 'files');
  await page.getByRole('link', { name: 'Notes' }).click();
  await page.getByRole('link', { name: '2026 年' }).click();
  await page.getByText('note 099.txt').waitFor();
  assert.equal(await page.getByText('note 102.txt').count(), 0);
  await page.getByRole('button', { name: 'Show more' }).click();
  await page.getByText('note 102.txt').waitFor();
  assert.equal(await page.locator('.files tbody tr').count(), 103);

  await page.getByRole('button', { name: 'Move note 000.txt to the trash' }).click();
  await page.getByRole('button', { name: 'Undo' }).click();
  await page.getByText('note 000.txt').waitFor();
  for (const n of ['001', '002']) await page.getByRole('button', { name: `Move note ${n}.txt to the trash` }).click();
  await page.getByText('note 002.txt is in the trash.').waitFor();
  await page.getByRole('navigation', { name: 'Folders above' }).getByRole('link', { name: 'Notes' }).click();
  await page.getByRole('heading', { name: 'Notes' }).waitFor();

  await visit(page, 'trash');
  await page.getByRole('button', { name: 'Restore note 001.txt' }).click();
  await page.getByText('note 001.txt is back in its folder.').waitFor();
  await page.getByRole('button', { name: 'Delete note 002.txt for good' }).click();
  await sound(page, 'a dialog');
  await page.getByRole('dialog').getByRole('button', { name: 'Delete for good' }).click();
  await page.getByText('The trash is empty').waitFor();
});

test('storage shows what keeping each content once saves', async () => { // R13
  await visit(page, 'storage');
  const mine = page.locator('.card', { hasText: 'My files' }).last();
  await mine.getByText('700 kB').waitFor(); // same.bin and its copy
  await page.getByRole('heading', { name: 'The whole box' }).waitFor();
  const care = page.locator('.card', { hasText: 'Is everything whole?' });
  await care.getByText('0 days', { exact: true }).waitFor();
  await care.getByText('within 30 days').waitFor();
  assert.equal(await care.getByText('damaged').count(), 0);
});

test('an app password is shown once, works, and stops when it is revoked', async () => { // R34
  await visit(page, 'account');
  await page.getByLabel('What is it for?').fill('PhotoSync');
  await page.getByRole('button', { name: 'Create' }).click();
  const token = await page.locator('dialog .secret code').innerText();
  await page.getByRole('button', { name: 'I have it' }).click();
  const list = () => ask('GET', '/v1/items', { user: owner.name, password: token });
  assert.equal((await list()).status, 200);
  // What a program sends appears on an open page by itself.
  await visit(page, 'files');
  await page.getByText('IMG_0001.HEIC').waitFor();
  const put = await ask('PUT', '/v1/files/from%20an%20app.txt?source=other', { user: owner.name, password: token, body: 'hello\n' });
  assert.equal(put.status, 201);
  await page.getByText('from an app.txt').waitFor();
  await visit(page, 'account');
  await page.getByRole('button', { name: 'Revoke PhotoSync' }).click();
  await page.getByText('No app passwords').waitFor();
  assert.equal((await list()).status, 401);
  assert.equal((await page.content()).includes(token), false);
});

test('what its owner deleted is declined, and comes back when they ask', async () => { // R27
  const photo = make('gone.jpg', 90_000);
  await visit(page, 'consents');
  await toggle('Phone album backup').click();
  await page.locator('.purpose', { hasText: 'Phone album backup' }).getByText('On', { exact: true }).waitFor();
  await upload([photo], 'Stored', 'album');
  const gone = await page.evaluate(async () => (await fetch('/v1/files/gone.jpg', { method: 'DELETE' })).status);
  assert.equal(gone, 204);
  await page.getByRole('button', { name: 'Clear finished' }).click();
  await choose([photo], 'album');
  const back = page.getByRole('button', { name: 'Back up again: gone.jpg' });
  await back.waitFor();
  await sound(page, 'a declined upload');
  await back.click();
  await row('gone.jpg').locator('small', { hasText: /Stored|Already here/ }).waitFor();
  assert.equal(await page.evaluate(async () => (await fetch('/v1/files/gone.jpg', { method: 'HEAD' })).status), 200);
});

test('an app that signs in is named, gets the consents chosen for it, and no others', async () => { // R20
  const begun = JSON.parse((await ask('POST', '/index.php/login/v2')).body);
  const poll = async () => ask('POST', '/index.php/login/v2/poll?token=' + begun.poll.token);
  assert.equal((await poll()).status, 404);
  await page.goto(begun.login.replace(/^https:\/\/[^/]+/, box.url));
  await page.getByRole('heading', { name: 'Let an app in?' }).waitFor();
  await settled(page);
  await sound(page, 'grant');
  await page.getByLabel('Name of the device').fill("Lin's phone");
  const before = await toggle('WeChat backup').isChecked();
  await toggle('WeChat backup').click();
  await page.getByRole('button', { name: 'Allow', exact: true }).click();
  await page.getByRole('heading', { name: 'The app is let in' }).waitFor();
  const got = await poll();
  assert.equal(got.status, 200);
  const { loginName, appPassword } = JSON.parse(got.body);
  assert.equal(loginName, owner.name);
  assert.equal((await poll()).status, 404); // once
  const put = await ask('PUT', `/remote.php/dav/files/${owner.name}/mmexport1598266474988.jpg`, { user: loginName, password: appPassword, body: 'x' });
  assert.equal(put.status, before ? 403 : 201);
  await visit(page, 'account');
});

test('the password is changed only with the old one', async () => { // R36
  await page.getByLabel('Current password').fill('not my password');
  await page.getByLabel('New password').fill(owner.fresh);
  await page.getByRole('button', { name: 'Change password' }).click();
  await page.locator('[role=alert]').waitFor();
  await page.getByLabel('Current password').fill(owner.password);
  await page.getByRole('button', { name: 'Change password' }).click();
  await page.getByText('Your password has been changed.').waitFor();
});

test('another person has files of their own, sees no one else, and can be disabled', async () => { // R34
  await page.getByRole('button', { name: 'Add a person' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Username').fill(member.name);
  await dialog.getByLabel('First password', { exact: true }).fill(member.password);
  await dialog.getByRole('button', { name: 'Add a person' }).click();
  await page.getByText('mei can now sign in.').waitFor();

  await page.getByRole('button', { name: 'Limit for mei' }).click();
  await dialog.getByLabel('Gigabytes').fill('2.5');
  await dialog.getByRole('button', { name: 'Save' }).click();
  await page.getByText('up to 2.5 GB').waitFor();

  const other = await open(browser, box, { locale: 'zh-CN', viewport: { width: 360, height: 740 } });
  assert.equal(await other.evaluate(() => document.documentElement.lang), 'zh-CN');
  await sound(other, 'sign-in in Chinese');
  await other.getByLabel('用户名').fill(member.name);
  await other.getByLabel('密码', { exact: true }).fill('a wrong password');
  await other.getByRole('button', { name: '登录' }).click();
  assert.match(await errorText(other), /错误/);
  await other.getByRole('button', { name: 'English' }).click();
  await signIn(other, member.name, member.password);
  await other.getByRole('heading', { name: 'What may the box do?' }).waitFor();
  await settled(other);
  assert.equal(await other.locator('input:checked').count(), 0);
  await sound(other, 'welcome on a phone');
  await other.getByRole('button', { name: 'Go to my files' }).click();
  await other.getByText('Nothing here yet').waitFor();
  await visit(other, 'account');
  assert.equal(await other.getByRole('heading', { name: 'People' }).count(), 0);
  await visit(other, 'storage');
  await other.getByText('0% of 2.5 GB').waitFor();
  assert.equal(await other.getByRole('heading', { name: 'The whole box' }).count(), 0);

  await page.getByRole('button', { name: 'Disable mei' }).click();
  await page.getByText('mei can no longer sign in.').waitFor();
  await visit(other, 'files');
  await other.getByRole('heading', { name: 'Sign in' }).waitFor();
  assert.deepEqual(other.faults, []);
  await other.context().close();
});

test('every page is sound: both languages, light and dark, 360 px and 1440 px', async () => {
  const state = await page.context().storageState();
  await Promise.all([['en', 'light', 360], ['en', 'dark', 1440], ['zh', 'light', 1440], ['zh', 'dark', 360]].map(async ([lang, colorScheme, width]) => {
    const p = await open(browser, box, { storageState: state, locale: lang === 'zh' ? 'zh-CN' : 'en-GB', colorScheme, viewport: { width, height: 800 } });
    for (const where of ['files', 'files/Notes', 'trash', 'upload', 'consents', 'storage', 'account']) {
      await visit(p, where);
      assert.match(await p.title(), /· Yunbox$/);
      await sound(p, `${where} ${lang} ${colorScheme} ${width}`);
    }
    assert.equal(await p.evaluate(() => document.documentElement.lang), lang === 'zh' ? 'zh-CN' : 'en');
    assert.deepEqual(p.faults, []);
    await p.context().close();
  }));
});

test('the keyboard alone is enough, and the language is kept', async () => {
  await visit(page, 'files');
  await page.reload();
  await settled(page);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.getByRole('link', { name: 'Consents' }).focus();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Consents', level: 1 }).waitFor();
  await settled(page);
  const wechat = toggle('WeChat backup');
  await wechat.focus();
  await page.keyboard.press('Space');
  await page.locator('.purpose', { hasText: 'WeChat backup' }).getByText('On', { exact: true }).waitFor();
  await page.getByRole('button', { name: '中文' }).click();
  await page.getByRole('heading', { name: '授权', level: 1 }).waitFor();
  await page.reload();
  await page.getByRole('heading', { name: '授权', level: 1 }).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'zh-CN');
});

test('a session that ends by itself leads to signing in and back', async () => {
  await page.getByRole('button', { name: 'English' }).click();
  await page.context().clearCookies();
  await visit(page, 'storage');
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  await signIn(page, owner.name, owner.fresh);
  await page.getByRole('heading', { name: 'Storage', level: 1 }).waitFor();
  await page.getByRole('button', { name: '中文' }).click();
});

test('signing out ends the session', async () => {
  await page.getByRole('button', { name: '退出' }).click();
  await page.getByRole('heading', { name: '登录' }).waitFor();
  await page.reload();
  await page.getByRole('heading', { name: '登录' }).waitFor();
  assert.deepEqual(page.faults, []);
});

test('the log names nobody and no file', () => {
  for (const secret of [owner.password, owner.fresh, member.password, 'IMG_0001.HEIC', 'big.bin', 'same.bin']) {
    assert.equal(box.log().includes(secret), false, `the log has ${secret}`);
  }
});

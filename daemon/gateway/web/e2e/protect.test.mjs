// A second factor from the first scan to the last recovery code, with an authenticator
// that we did not write: what it reads is the picture on the screen.
import assert from 'node:assert/strict';
import { after, before, test as run } from 'node:test';
import jsQR from 'jsqr';
import * as OTPAuth from 'otpauth';
import { startBox } from './box.mjs';
import { launch, open, settled, sound, visit } from './browser.mjs';

const lin = { name: 'lin', password: 'quiet harbour seven lamps' };
let box, browser, page, token;
let app; // the authenticator
let codes = []; // for recovery

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
  const secret = new URL((await box.label()).pair_uri).searchParams.get('s');
  const made = await box.ask('POST', '/v1/bind', { body: { secret, username: lin.name, password: lin.password, device: { name: 'the first run', kind: 'computer' } } });
  ({ token } = JSON.parse(made.body));
  const { revision } = JSON.parse((await box.ask('GET', '/v1/policy', { token })).body);
  assert.equal((await box.ask('PUT', '/v1/policy', { token, body: { accepted: true, revision } })).status, 200);
});
after(async () => {
  await browser?.close();
  await box?.remove();
});

async function password(p, words) {
  await p.getByLabel(words.name, { exact: true }).fill(lin.name);
  await p.getByLabel(words.password, { exact: true }).fill(lin.password);
  await p.getByRole('button', { name: words.signIn }).click();
}
const english = { name: 'Username', password: 'Password', signIn: 'Sign in' };
const card = (name) => page.getByRole('region', { name });

/** What a phone's camera sees: the pixels of the code on the screen. */
async function scan(p) {
  const png = (await p.getByRole('img', { name: 'QR code for the authenticator app' }).screenshot({ scale: 'css' })).toString('base64');
  const blank = await (await browser.newContext()).newPage();
  const { data, width, height } = await blank.evaluate(async (src) => {
    const img = new Image();
    img.src = src;
    await img.decode();
    const c = document.createElement('canvas');
    [c.width, c.height] = [img.width, img.height];
    const ctx = c.getContext('2d');
    ctx.drawImage(img, 0, 0);
    return { data: [...ctx.getImageData(0, 0, c.width, c.height).data], width: c.width, height: c.height };
  }, 'data:image/png;base64,' + png);
  await blank.context().close();
  return jsQR(Uint8ClampedArray.from(data), width, height)?.data;
}
/** The code of so many steps from now; each step is good once. */
const code = (steps) => app.generate({ timestamp: Date.now() + steps * 30_000 });
const wrong = () => [-1, 0, 1, 2].map(code).includes('000000') ? '999999' : '000000';

test('an authenticator is set up by its QR code and counts from its first code on', async () => { // R34
  page = await open(browser, box, { colorScheme: 'dark' }); // the code is dark on white all the same
  await password(page, english);
  await page.getByRole('heading', { name: 'Files', exact: true }).waitFor();
  await visit(page, 'account');
  await card('Protect your account').getByRole('button', { name: 'Set up an authenticator app' }).click();
  const dialog = page.getByRole('dialog', { name: 'Set up an authenticator app' });
  await dialog.getByRole('img').waitFor();
  await sound(page, 'setting up an authenticator');
  const uri = await scan(page);
  app = OTPAuth.URI.parse(uri);
  assert.equal(app.label, lin.name);
  assert.match(app.issuer, /^Yunbox /);
  assert.equal((await dialog.locator('.secret code').innerText()).replaceAll(' ', ''), app.secret.base32);
  await dialog.getByLabel('Code from your authenticator app').fill(wrong());
  await dialog.getByRole('button', { name: 'Switch on' }).click();
  await dialog.getByRole('alert').filter({ hasText: 'That code is not right' }).waitFor();
  await dialog.getByLabel('Code from your authenticator app').fill(code(0));
  await dialog.getByRole('button', { name: 'Switch on' }).click();
  const shown = page.getByRole('dialog', { name: 'Recovery codes' });
  await shown.locator('.codes li').nth(9).waitFor();
  codes = await shown.locator('.codes code').allInnerTexts();
  assert.equal(new Set(codes).size, 10);
  await sound(page, 'recovery codes');
  const [saved] = await Promise.all([page.waitForEvent('download'), shown.getByRole('button', { name: 'Save as a file' }).click()]);
  assert.equal(saved.suggestedFilename(), 'yunbox-recovery-codes.txt');
  await page.emulateMedia({ media: 'print' });
  assert.equal(await page.locator('.nav').isVisible(), false);
  assert.equal(await page.locator('.codes li').first().isVisible(), true);
  assert.equal(await page.locator('.dialog .button.main').isVisible(), false);
  await page.emulateMedia({ media: 'screen' });
  await shown.getByRole('button', { name: 'I have it' }).click();
  await card('Protect your account').getByText('On', { exact: true }).waitFor();
  await card('Protect your account').getByText('10 left').waitFor();
  // The session that bound the box was opened without a code.
  assert.equal((await box.ask('GET', '/v1/me', { token })).status, 401);
});

test('signing in takes a code, and each code once', async () => { // R34
  await page.getByRole('button', { name: 'Sign out', exact: true }).click();
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  await password(page, english);
  await page.getByRole('heading', { name: 'One more step' }).waitFor();
  await sound(page, 'the code at sign-in');
  const field = page.getByLabel('Code from your authenticator app');
  await field.fill(wrong());
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('alert').filter({ hasText: 'That code is not right' }).waitFor();
  assert.equal(await field.inputValue(), '');
  await field.fill(code(1)); // the one of now has confirmed
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('heading', { name: 'Account', exact: true }).waitFor(); // where one was
});

test('a sign-in elsewhere is told, seen in the list, and ended from here', async () => { // R34 R35
  const phone = await open(browser, box, { locale: 'zh-CN', viewport: { width: 390, height: 844 } });
  await password(phone, { name: '用户名', password: '密码', signIn: '登录' });
  await phone.getByRole('heading', { name: '还差一步' }).waitFor();
  await sound(phone, 'the code at sign-in in Chinese');
  await phone.getByRole('button', { name: '改用恢复码' }).click();
  await phone.getByLabel('恢复码').fill(codes[0].toUpperCase());
  await phone.getByRole('button', { name: '登录' }).click();
  await phone.getByRole('heading', { name: '文件' }).waitFor();
  await visit(phone, 'account');
  await sound(phone, 'the account in Chinese');
  await page.locator('.nav .badge').waitFor(); // by itself, while another page is open
  await visit(page, 'account');
  await card('News of your account').getByText('A recovery code was used').waitFor();
  await card('News of your account').getByText(/^New sign-in: Chrome/).first().waitFor();
  await card('Protect your account').getByText('9 left').waitFor();
  await sound(page, 'news of the account');
  await card('News of your account').getByRole('button', { name: 'I have seen this' }).click();
  await card('News of your account').waitFor({ state: 'detached' });

  const sessions = card('Where you are signed in');
  await sessions.locator('li').nth(1).waitFor();
  assert.equal(await sessions.locator('li').count(), 2);
  await sessions.locator('li').first().getByText('This one').waitFor();
  await sessions.getByRole('button', { name: /^Sign out Chrome/ }).click();
  await page.getByText('Signed out 1 session.').waitFor();
  await sessions.locator('li').nth(1).waitFor({ state: 'detached' }); // the list is read again after that
  assert.equal(await sessions.locator('li').count(), 1);
  await phone.getByRole('heading', { name: '登录' }).waitFor();
  assert.deepEqual(phone.faults, []);
  await phone.context().close();
});

test('a session that was left open is asked for its password before it can change who gets in', async () => { // R34
  await box.stop();
  await box.start(); // no session has proved anything since
  await visit(page, 'files');
  await visit(page, 'account');
  await card('Protect your account').getByRole('button', { name: 'Switch off' }).click();
  await page.getByRole('dialog', { name: 'Switch the second factor off?' }).getByRole('button', { name: 'Switch off' }).click();
  const proof = page.getByRole('dialog', { name: 'Is it you?' });
  await proof.getByLabel('Your password').fill('not my password');
  await sound(page, 'a proof of identity');
  await proof.getByRole('button', { name: 'Use a recovery code instead' }).click();
  await proof.getByLabel('Recovery code', { exact: true }).fill(codes[1]);
  await proof.getByRole('button', { name: 'Continue' }).click();
  await proof.getByRole('alert').filter({ hasText: 'The password is wrong' }).waitFor();
  await proof.getByLabel('Your password').fill(lin.password);
  await proof.getByLabel('Recovery code', { exact: true }).fill(codes[1]);
  await proof.getByRole('button', { name: 'Continue' }).click();
  await page.getByText('The second factor is off.').waitFor();
  await card('Protect your account').getByText('Off', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Sign out', exact: true }).click();
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  await password(page, english);
  await page.getByRole('heading', { name: 'Account', exact: true }).waitFor();
  assert.deepEqual(page.faults, []);
});

test('the log has no secret, no code and no recovery code', async () => { // R33
  for (const secret of [app.secret.base32, codes[0], codes[5], lin.password]) assert.equal(box.log().includes(secret), false);
});

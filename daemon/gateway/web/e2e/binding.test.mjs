// Inviting somebody, and giving the box back, in a browser.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBox } from './box.mjs';
import { launch, open, settled, sound, visit } from './browser.mjs';

const owner = { name: 'lin', password: 'violet-otter-seventeen-boats' };
let box, browser, page;

before(async () => {
  [box, browser] = await Promise.all([startBox(), launch()]);
  const secret = new URL((await box.label()).pair_uri).searchParams.get('s');
  const { token } = JSON.parse((await box.ask('POST', '/v1/bind', { body: { secret, username: owner.name, password: owner.password } })).body);
  const { revision } = JSON.parse((await box.ask('GET', '/v1/policy', { token })).body);
  assert.equal((await box.ask('PUT', '/v1/policy', { token, body: { accepted: true, revision } })).status, 200);
  page = await open(browser, box);
  await page.getByLabel('Username').fill(owner.name);
  await page.getByLabel('Password', { exact: true }).fill(owner.password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.locator('.shell').waitFor();
});
after(async () => {
  await browser?.close();
  await box?.remove();
});

test('somebody who is invited makes their own account, once', async () => { // R03 R31
  await visit(page, 'account');
  await page.locator('a[href="#/binding"]').click();
  await page.getByRole('button', { name: 'Make an invitation' }).click();
  await page.locator('svg.qr').waitFor();
  await sound(page, 'an invitation');
  const address = await page.locator('code', { hasText: '#/join/' }).innerText();
  const where = address.slice(address.indexOf('#'));
  const phone = await open(browser, box, { locale: 'zh-CN', viewport: { width: 390, height: 740 } });
  await phone.goto(`${box.url}/${where}`);
  await phone.reload();
  await phone.getByRole('heading', { name: '您收到了邀请' }).waitFor();
  assert.deepEqual(await phone.locator('.words li').allInnerTexts(), (await box.status()).words);
  await sound(phone, 'joining on a phone in Chinese');
  await phone.locator('input[name=username]').fill('bo');
  await phone.locator('input[type=password]').fill('amber-lizard-forty-kites');
  await phone.getByRole('button', { name: '注册我的账号' }).click();
  await phone.locator('.policy').first().waitFor(); // the policy comes first, as for everybody
  assert.deepEqual(phone.faults, []);
  await phone.context().close();
  const late = await open(browser, box);
  await late.goto(`${box.url}/${where}`);
  await late.reload();
  await late.locator('input[name=username]').fill('eve');
  await late.locator('input[type=password]').fill('amber-lizard-forty-kites');
  await late.getByRole('button', { name: 'Make my account' }).click();
  await late.getByRole('alert').filter({ hasText: 'invitation is over' }).waitFor();
  await late.context().close();
});

test('the owner gives the box back by typing its name', async () => { // R03
  const { fingerprint, name } = await box.status();
  await page.getByLabel('To go on, type the name of the box').fill('yes');
  await page.getByRole('button', { name: 'Erase everything' }).click();
  await page.getByRole('alert').filter({ hasText: 'not the name' }).waitFor();
  assert.equal((await box.status()).bound, true);
  await page.getByLabel('To go on, type the name of the box').fill(name);
  await settled(page);
  await sound(page, 'a reset that is to be confirmed');
  await page.getByRole('button', { name: 'Erase everything' }).click();
  await page.getByText('The box is being erased').waitFor();
  for (let i = 0; ; i++) {
    const now = await box.status().catch(() => null);
    if (now && now.fingerprint !== fingerprint) {
      assert.equal(now.bound, false);
      break;
    }
    assert.ok(i < 1200, 'the box is not new');
    await new Promise((ok) => setTimeout(ok, 100));
  }
  assert.deepEqual(page.faults, []);
});

// A child and its guardian, each on their own page, in a real browser. R24
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBox } from './box.mjs';
import { launch, open, settled, sound, visit } from './browser.mjs';

const password = 'quiet harbour seven lamps';
let box, browser, token;

before(async () => {
  [box, browser] = await Promise.all([startBox(), launch()]);
  const secret = new URL((await box.label()).pair_uri).searchParams.get('s');
  token = JSON.parse((await box.ask('POST', '/v1/bind', { body: { secret, username: 'lin', password } })).body).token;
});
after(async () => {
  await browser?.close();
  await box?.remove();
});

async function signedIn(name, width, lang) {
  const page = await open(browser, box, { viewport: { width, height: 860 } }, (c) => c.addInitScript((l) => localStorage.setItem('yunbox.lang', l), lang));
  await settled(page);
  await page.locator('input').first().fill(name);
  await page.locator('input[type=password]').fill(password);
  await page.locator('form button[type=submit]').click();
  await page.locator('.shell, .gate h1').last().waitFor();
  return page;
}

test('an adult adds a child, accepts, is asked and agrees; the child sees it', async () => {
  const lin = await signedIn('lin', 1280, 'en');
  // The declaration of age is made with the acceptance, and nothing is ticked before.
  await lin.getByLabel(/I am 14 or older/).check();
  await lin.getByRole('button', { name: 'Accept', exact: true }).click();
  await lin.getByText('Accepted.', { exact: false }).waitFor();
  await lin.getByRole('button', { name: 'Go to my files' }).click();
  await visit(lin, 'account');
  await lin.getByRole('button', { name: 'Add a person' }).click();
  const dialog = lin.getByRole('dialog');
  await dialog.getByLabel('Username', { exact: true }).fill('mia');
  await dialog.locator('input[type=password]').fill(password);
  await dialog.getByRole('radio', { name: /Child/ }).check();
  await dialog.getByLabel("Guardian's username").fill('lin');
  await dialog.getByLabel('Turns 14 in').fill(`${new Date().getFullYear() + 5}-05`);
  await sound(lin, 'adding a child');
  await dialog.getByRole('button', { name: 'Add a person' }).click();
  await lin.getByText('mia can now sign in.').waitFor();

  const mia = await signedIn('mia', 390, 'zh');
  await visit(mia, 'guardian');
  await mia.getByText('目前没有人监护您', { exact: false }).waitFor();
  await sound(mia, 'a child without a guardian');

  await visit(lin, 'guardian');
  await lin.getByText('You were asked to stand for mia.', { exact: false }).waitFor();
  await sound(lin, 'an invitation');
  await lin.getByRole('button', { name: 'Accept', exact: true }).click();
  const card = lin.locator('section.card', { has: lin.getByRole('heading', { name: 'What the box may do for mia' }) });
  await card.getByLabel(/accept it for mia/).check();
  await card.getByRole('button', { name: 'Accept for mia' }).click();
  await card.getByRole('button', { name: 'Withdraw', exact: true }).waitFor();

  await mia.getByRole('button', { name: '请监护人同意手机相册备份' }).or(mia.getByRole('button', { name: /^请监护人同意.*相册/ })).first().click();
  await mia.getByRole('button', { name: /^撤回对/ }).waitFor();
  await lin.getByRole('heading', { name: 'mia asks' }).waitFor(); // told without a reload
  await sound(lin, 'a guardian');
  await lin.getByRole('button', { name: /^Yes to .* for mia/ }).click();
  await mia.getByRole('button', { name: /^拒绝.*相册/ }).waitFor();
  await sound(mia, 'a child');
  const upload = await box.ask('PUT', '/v1/files/a.jpg?source=album', {
    token: JSON.parse((await box.ask('POST', '/v1/session', { body: { username: 'mia', password } })).body).token, body: 'a photo',
  });
  assert.equal(upload.status, 201, upload.body);

  // Withdrawn and deleted at once: both have the receipt.
  await card.getByRole('switch', { name: /album/i }).first().click();
  await card.getByRole('button', { name: 'Delete now' }).click();
  await lin.getByRole('dialog').getByRole('button', { name: 'Delete now' }).click();
  await card.getByText('Deleted', { exact: true }).waitFor();
  await mia.locator('summary', { hasText: '已删除' }).click();
  await mia.getByRole('button', { name: '下载凭证' }).first().waitFor();
  assert.deepEqual([...lin.faults, ...mia.faults], []);
});

// Erasing, cancelling and keeping an account, asking and complaining, in a real browser. R27 R28 R29 R30
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { startBox } from './box.mjs';
import { launch, open, settled, sound, visit } from './browser.mjs';

const owner = { name: 'lin', password: 'quiet harbour seven lamps' };
const member = { name: 'mei', password: 'seven quiet lamps harbour' };
let box, browser;

before(async () => {
  [box, browser] = await Promise.all([startBox(), launch()]);
  const secret = new URL((await box.label()).pair_uri).searchParams.get('s');
  const { token } = JSON.parse((await box.ask('POST', '/v1/bind', { body: { secret, username: owner.name, password: owner.password } })).body);
  assert.equal((await box.ask('POST', '/v1/users', { token, body: { username: member.name, password: member.password, role: 'member' } })).status, 201);
  const mei = JSON.parse((await box.ask('POST', '/v1/session', { body: { username: member.name, password: member.password } })).body).token;
  const { revision } = JSON.parse((await box.ask('GET', '/v1/policy', { token })).body);
  for (const t of [token, mei]) for (const p of ['storage', 'album_backup']) await box.ask('PUT', '/v1/consents/' + p, { token: t, body: { granted: true, policy_revision: revision } });
  for (let i = 0; i < 3; i++) await box.ask('PUT', `/v1/files/DCIM/IMG_${i}.jpg?source=album`, { token: mei, body: 'photo ' + i });
});
after(async () => {
  await browser?.close();
  await box?.remove();
});

async function signIn(page, who) {
  await settled(page);
  await page.locator('input').first().fill(who.name);
  await page.locator('input[type=password]').fill(who.password);
  await page.locator('form button[type=submit]').click();
  await page.locator('.shell').waitFor();
}

test('a person erases, cancels, keeps and asks', async () => {
  const page = await open(browser, box, { viewport: { width: 390, height: 860 } }, (c) => c.addInitScript(() => localStorage.setItem('yunbox.lang', 'en')));
  await signIn(page, member);
  await visit(page, 'account');
  await page.locator('a[href="#/rights"]').click();
  await page.getByRole('heading', { name: 'Erase, cancel, ask', level: 1 }).waitFor();
  await page.locator('#erase-what').selectOption('c:files');
  await sound(page, 'rights');
  await page.getByRole('button', { name: 'See what goes' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('3 records go').waitFor();
  await sound(page, 'erase');
  await dialog.getByRole('button', { name: 'Erase it now' }).click();
  await dialog.waitFor({ state: 'detached' });

  await page.getByRole('button', { name: 'Cancel the account' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel the account' }).click();
  await page.getByText('The code for your receipt').waitFor();
  await sound(page, 'cancelled');
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Save it' }).click()]);
  assert.match(readFileSync(await file.path(), 'utf8'), /[A-Z2-7]{26}/);
  await page.getByRole('button', { name: 'Keep the account' }).click();
  await page.getByRole('button', { name: 'Cancel the account' }).waitFor();

  await page.getByLabel('In your words').fill('What do you know about me?');
  await page.getByRole('button', { name: 'Send' }).click();
  await page.getByText(/to be answered by/).waitFor();
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('the owner answers; a stranger asks and reads the answer', async () => {
  const stranger = await open(browser, box, { viewport: { width: 390, height: 860 } }, (c) => c.addInitScript(() => localStorage.setItem('yunbox.lang', 'zh')));
  await settled(stranger);
  await stranger.locator('a[href="#/ask"]').click();
  await stranger.locator('#ask-text').fill('我的照片');
  await sound(stranger, 'ask');
  await stranger.getByRole('button', { name: '提交' }).click();
  const code = await stranger.locator('code.wrap').innerText();

  const page = await open(browser, box, { viewport: { width: 1280, height: 860 } }, (c) => c.addInitScript(() => localStorage.setItem('yunbox.lang', 'en')));
  await signIn(page, owner);
  await page.goto(page.url().replace(/#.*/, '') + '#/rights');
  const line = page.locator('li', { hasText: '我的照片' });
  await line.getByRole('button', { name: 'Answer' }).click();
  await page.getByLabel('Your answer').fill('It is gone.');
  await page.getByRole('dialog').getByRole('button', { name: 'Send' }).click();
  await line.waitFor({ state: 'detached' });
  await page.getByRole('textbox', { name: 'Trash' }).fill('30');
  await sound(page, 'rights of an owner');
  await page.locator('li', { has: page.getByRole('textbox', { name: 'Trash' }) }).getByRole('button', { name: 'Set' }).click();
  await page.getByText('It counts from now on').waitFor();

  await stranger.getByLabel('代码').first().fill(code);
  await stranger.getByRole('button', { name: '查看', exact: true }).click();
  await stranger.getByText('It is gone.').waitFor();
  assert.deepEqual([...page.faults, ...stranger.faults], []);
});

test('the owner hands the box over, and the other accepts it', async () => {
  const page = await open(browser, box, { viewport: { width: 390, height: 860 } }, (c) => c.addInitScript(() => localStorage.setItem('yunbox.lang', 'en')));
  await signIn(page, owner);
  await visit(page, 'rights');
  await page.getByText("The owner's account cannot be cancelled").waitFor();
  await page.getByLabel("The new owner's name").fill(member.name);
  await page.getByRole('button', { name: 'Hand the box over' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Hand the box over' }).click();
  await page.getByText('You offer the box to mei').waitFor();
  await sound(page, 'the box is offered');

  const other = await open(browser, box, { viewport: { width: 390, height: 860 } }, (c) => c.addInitScript(() => localStorage.setItem('yunbox.lang', 'zh')));
  await signIn(other, member);
  await visit(other, 'rights');
  await other.getByText('lin 要把这台盒子转让给您').waitFor();
  await sound(other, 'the box is offered to somebody');
  await other.getByRole('button', { name: '接受盒子' }).click();
  await other.getByLabel('新主人的名字').waitFor();

  await page.reload();
  await page.getByRole('button', { name: 'Cancel the account' }).waitFor();
  assert.deepEqual([...page.faults, ...other.faults], []);
  for (const p of [page, other]) await p.context().close();
});

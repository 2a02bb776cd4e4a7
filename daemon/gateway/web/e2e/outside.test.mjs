// What concerns the world outside of the box, in a real browser: an incident that people
// are told of, what left the box, what the maker would be told. R17 R19 R37 R38
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBox } from './box.mjs';
import { launch, open, settled, sound } from './browser.mjs';

const password = 'quiet harbour seven lamps';
let box, browser;

before(async () => {
  [box, browser] = await Promise.all([startBox(), launch()]);
  const secret = new URL((await box.label()).pair_uri).searchParams.get('s');
  const { token } = JSON.parse((await box.ask('POST', '/v1/bind', { body: { secret, username: 'lin', password } })).body);
  const { revision } = JSON.parse((await box.ask('GET', '/v1/policy', { token })).body);
  await box.ask('PUT', '/v1/consents/storage', { token, body: { granted: true, policy_revision: revision } });
  await box.ask('POST', '/v1/users', { token, body: { username: 'bo', password, role: 'member' } });
  const bo = JSON.parse((await box.ask('POST', '/v1/session', { body: { username: 'bo', password } })).body);
  await box.ask('PUT', '/v1/consents/storage', { token: bo.token, body: { granted: true, policy_revision: revision } });
});
after(async () => {
  await browser?.close();
  await box?.remove();
});

async function signIn(name, lang, width) {
  const page = await open(browser, box, { viewport: { width, height: 860 } }, (c) => c.addInitScript((l) => localStorage.setItem('yunbox.lang', l), lang));
  await settled(page);
  await page.locator('input').first().fill(name);
  await page.locator('input[type=password]').fill(password);
  await page.locator('form button[type=submit]').click();
  await page.locator('.shell').waitFor();
  await page.goto(box.url + '/#/outside');
  await page.locator('h1').waitFor();
  return page;
}

test('an incident is written, sent to everybody, and published', async () => {
  const page = await signIn('lin', 'en', 1280);
  await page.getByRole('heading', { name: 'Outside of the box', level: 1 }).waitFor();
  await page.getByRole('button', { name: 'Write a notice' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Whom to ask').fill('Lin, 4711');
  for (const [label, text] of [['In a few words', 'A disk was stolen'], ['What happened', 'The second copy was taken.'], ['What it may mean', 'Nobody can read it.'],
    ['What was done about it', 'Another was made.'], ['What you can do', 'Nothing.'], ['What you are entitled to', 'Ask.']]) await dialog.getByLabel(label).fill(text);
  await sound(page, 'incident');
  await dialog.getByRole('button', { name: 'Keep as a draft' }).click();
  await dialog.waitFor({ state: 'detached' });
  await page.getByText('Draft: nobody sees it').waitFor();
  await page.getByRole('button', { name: 'Send' }).click();
  await page.getByRole('dialog').getByLabel(/Show it to everybody/).check();
  await page.getByRole('dialog').getByRole('button', { name: 'Send' }).click();
  await page.getByText(/to 2 people; 0 have read it/).waitFor();
  await page.getByRole('region', { name: 'Is there a newer version?' }).getByRole('button').click();
  await page.getByText(/^\{"application_number":"[A-Z2-7]{16}","os_type":"linux","app_version":"[\d.]+"\}$/).waitFor();
  await page.getByText('No address is set').waitFor();
  await page.getByRole('button', { name: 'Show', exact: true }).click();
  await page.getByText('A notice was published').waitFor();
  await sound(page, 'outside');
  await page.setViewportSize({ width: 390, height: 860 });
  await sound(page, 'outside on a phone');
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('whoever it concerns reads it, on a phone and in Chinese', async () => {
  const page = await signIn('bo', 'zh', 390);
  const notice = page.getByRole('region', { name: 'A disk was stolen' });
  await notice.getByText('The second copy was taken.').waitFor();
  assert.equal(await notice.getByText('The second copy was taken.').getAttribute('lang') ?? await notice.locator('dd[lang=en]').first().getAttribute('lang'), 'en');
  await sound(page, 'told');
  await notice.getByRole('button', { name: '我已阅读' }).click();
  await notice.getByRole('button', { name: '我已阅读' }).waitFor({ state: 'detached' });
  await page.getByRole('heading', { name: '离开盒子的数据' }).waitFor();
  assert.equal(await page.getByRole('heading', { name: '事件' }).count(), 0, 'a member manages nothing');
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('it stands before the sign-in, too', async () => {
  const page = await open(browser, box, { viewport: { width: 390, height: 860 } });
  await page.getByRole('heading', { name: 'A disk was stolen' }).waitFor();
  await sound(page, 'announced');
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

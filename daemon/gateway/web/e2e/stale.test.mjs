// A decision made in one tab, and another tab that does not know of it: a yes that comes too late
// undoes no no, and the page says so and shows how it stands. R20 R22
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBox } from './box.mjs';
import { launch, open, settled, sound, visit } from './browser.mjs';

const who = { name: 'lin', password: 'quiet harbour seven lamps' };
let box, browser, token, revision;

before(async () => {
  [box, browser] = await Promise.all([startBox(), launch()]);
  const secret = new URL((await box.label()).pair_uri).searchParams.get('s');
  token = JSON.parse((await box.ask('POST', '/v1/bind', { body: { secret, username: who.name, password: who.password } })).body).token;
  ({ revision } = JSON.parse((await box.ask('GET', '/v1/policy', { token })).body));
  await yes('storage');
});
after(async () => {
  await browser?.close();
  await box?.remove();
});

const yes = async (purpose) => assert.equal((await box.ask('PUT', '/v1/consents/' + purpose, { token, body: { granted: true, policy_revision: revision } })).status, 200);
const state = async (purpose) => JSON.parse((await box.ask('GET', '/v1/consents', { token })).body).consents.find((c) => c.purpose === purpose && !c.device).state;

async function signIn(lang, width) {
  const page = await open(browser, box, { viewport: { width, height: 860 } }, (c) => c.addInitScript((l) => localStorage.setItem('yunbox.lang', l), lang));
  await settled(page);
  await page.locator('input').first().fill(who.name);
  await page.locator('input[type=password]').fill(who.password);
  await page.locator('form button[type=submit]').click();
  await page.locator('.shell, #purpose-storage').first().waitFor(); // who has not accepted the policy is asked first
  await visit(page, 'consents');
  await page.locator('#purpose-storage').waitFor();
  return page;
}

async function secondTab(page) {
  const other = await page.context().newPage();
  other.setDefaultTimeout(45_000);
  await other.goto(box.url + '/#/consents');
  await settled(other);
  return other;
}

const albumOf = (page) => page.locator('#purpose-album_backup');
const switchOf = (page) => albumOf(page).getByRole('switch').first();
async function turn(page, to) {
  await switchOf(page).click();
  await albumOf(page).locator(`[role=switch]${to ? ':checked' : ':not(:checked)'}`).first().waitFor();
}

for (const [lang, width, words, withdrawn] of [
  ['en', 1280, ['There is a newer decision', 'so that nothing was changed', 'Look how it stands now'], 'withdrawn'],
  ['zh', 390, ['已有更新的决定', '因此没有作任何更改', '请查看现在的状态'], '已撤回'],
]) {
  test(`a switch that shows what was is refused, and then shows what is (${lang})`, async () => {
    const first = await signIn(lang, width);
    assert.equal(await switchOf(first).isChecked(), false);
    const second = await secondTab(first);
    await turn(second, true);
    await turn(second, false);
    if (lang === 'en') for (const to of [true, false]) await turn(second, to); // one after the other: each follows its own last one

    await switchOf(first).click();
    const note = albumOf(first).getByRole('alert');
    for (const part of words) await note.getByText(part, { exact: false }).waitFor();
    assert.equal(await switchOf(first).isChecked(), false);
    await albumOf(first).locator('.tag', { hasText: new RegExp(withdrawn, 'i') }).waitFor();
    assert.equal(await state('album_backup'), 'withdrawn');
    await sound(first, 'a stale yes');

    // Who has seen how it stands decides.
    await turn(first, true);
    await note.waitFor({ state: 'detached' });
    assert.equal(await state('album_backup'), 'granted');
    await turn(first, false);
    assert.deepEqual(first.faults, []);
    await first.context().close();
  });
}

test('a yes that was held up on its way does not undo a no to all', async () => { // R23
  const page = await signIn('en', 1280);
  let held, go;
  const arrived = new Promise((ok) => (held = ok));
  const gate = new Promise((ok) => (go = ok));
  await page.route('**/v1/consents/album_backup', async (route) => {
    if (route.request().method() === 'PUT') {
      held();
      await gate;
    }
    await route.continue();
  });
  await switchOf(page).click();
  await arrived;
  for (const accepted of [false, true]) assert.equal((await box.ask('PUT', '/v1/policy', { token, body: { accepted, revision } })).status, 200);
  go();
  await albumOf(page).getByText('There is a newer decision').waitFor();
  assert.notEqual(await state('album_backup'), 'granted');
  await page.context().close();
});

test('the policy, declined elsewhere, is not accepted by a page that does not know of it', async () => { // R23
  assert.equal((await box.ask('DELETE', '/v1/consents/storage', { token })).status, 200);
  const page = await signIn('zh', 390);
  for (const accepted of [true, false]) assert.equal((await box.ask('PUT', '/v1/policy', { token, body: { accepted, revision } })).status, 200);
  const card = page.locator('#purpose-storage');
  await card.getByRole('checkbox').check();
  await card.locator('.accept button').click();
  await card.getByText('已有更新的决定').waitFor();
  assert.equal(JSON.parse((await box.ask('GET', '/v1/policy', { token })).body).standing, 'declined');
  assert.equal(await card.getByRole('checkbox').isChecked(), false); // to be ticked anew by who has seen it
  await sound(page, 'a stale acceptance');
  await page.context().close();
});

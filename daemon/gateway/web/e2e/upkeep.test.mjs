// What runs in the background, and the box's software, in a real browser.
import assert from 'node:assert/strict';
import https from 'node:https';
import { after, before, test } from 'node:test';
import { startBox } from './box.mjs';
import { launch, open, settled, sound, visit } from './browser.mjs';

const password = 'quiet harbour seven lamps';
const phone = { width: 390, height: 780 };
let box, browser, lin, mei;

const json = async (method, p, how, status = 200) => {
  const r = await box.ask(method, p, how);
  assert.equal(r.status, status, `${method} ${p}: ${r.body}`);
  return r.body.length > 0 ? JSON.parse(r.body) : null;
};

/** Somebody who agreed to the policy and to backing up an album. */
async function settle(token) {
  const { revision } = await json('GET', '/v1/policy', { token });
  await json('PUT', '/v1/policy', { token, body: { accepted: true, revision } });
  for (const purpose of ['storage', 'album_backup']) await json('PUT', '/v1/consents/' + purpose, { token, body: { granted: true, policy_revision: revision } });
  return token;
}

async function signedIn(name, options, lang) {
  const page = await open(browser, box, options, (c) => c.addInitScript((l) => localStorage.setItem('yunbox.lang', l), lang));
  await settled(page);
  await page.locator('input').first().fill(name);
  await page.locator('input[type=password]').fill(password);
  await page.locator('form button[type=submit]').click();
  await page.locator('.shell').waitFor();
  return page;
}

before(async () => {
  [box, browser] = await Promise.all([startBox(), launch()]);
  const secret = new URL((await box.label()).pair_uri).searchParams.get('s');
  lin = await settle((await json('POST', '/v1/bind', { body: { secret, username: 'lin', password } }, 201)).token);
  await json('POST', '/v1/users', { token: lin, body: { username: 'mei', password } }, 201);
  mei = await settle((await json('POST', '/v1/session', { body: { username: 'mei', password } })).token);
});
after(async () => {
  await browser?.close();
  await box?.remove();
});


test('everybody sees how far their own work is, and an owner not whose the rest is', async () => { // R33
  await json('PUT', '/v1/files/geheim.mp4?source=album', { token: mei, body: 'x'.repeat(24 << 20) }, 201);
  let e = await json('POST', '/v1/me/exports', { token: mei, body: {} }, 202);
  while (e.state === 'preparing') e = await json('GET', '/v1/me/exports/' + e.id, { token: mei });
  // Somebody fetches it, and stops in the middle.
  const half = await new Promise((ok, no) => {
    const req = https.request(`${box.url}/v1/me/exports/${e.id}/archive`, { headers: { Authorization: 'Bearer ' + mei }, rejectUnauthorized: false }, (r) => r.once('data', () => ok(r.pause())));
    req.on('error', no);
    req.end();
  });
  half.on('error', () => {}); // it is cut off below
  const page = await signedIn('lin', {}, 'en');
  await visit(page, 'storage');
  const work = page.getByRole('region', { name: 'In the background' });
  await work.getByText("somebody else's").waitFor();
  await work.getByText(/being downloaded · .* of 25\.\d MB/).waitFor();
  assert.ok((await work.getByRole('progressbar').getAttribute('value')) > 0);
  const text = await page.locator('main').innerText();
  assert.ok(!text.includes('mei') && !text.includes('geheim'), text);
  await sound(page, 'work in the background');
  half.destroy();
  await work.getByText('Nothing runs at the moment').waitFor(); // it looks again by itself
  assert.deepEqual(page.faults, []);

  const own = await signedIn('mei', { viewport: phone }, 'zh');
  await visit(own, 'storage');
  const mine = own.getByRole('region', { name: '后台任务' });
  await mine.getByText('导出 · 您的').waitFor();
  await mine.getByText('可以下载').waitFor();
  assert.equal(await mine.locator('li').count(), 1);
  await sound(own, 'own work on a phone in Chinese');
  assert.deepEqual(own.faults, []);
  await Promise.all([page, own].map((p) => p.context().close()));
});

test('the page of updates: what waits, what goes on, what came of it, and back', async () => { // R18
  const page = await signedIn('lin', { viewport: phone }, 'en');
  await visit(page, 'update');
  // This box was not installed as a package.
  await page.getByText('was not installed from a package').waitFor();
  const { version } = await json('GET', '/v1/update', { token: lin });
  await page.getByRole('heading', { name: version }).waitFor();
  await sound(page, 'software that is no package');

  // From here on the answers are those of a box that was: what installs it needs root.
  let state = { version, counter: 7, keys: true, floor: 3, previous: null, waiting: null, running: null, on_trial: false, last: null };
  let away = false;
  const asked = [];
  await page.route('**/v1/update**', (r) => {
    const method = r.request().method(), what = new URL(r.request().url()).pathname.split('/').pop();
    if (away) return r.abort();
    if (method !== 'GET') asked.push(`${method} ${what} ${method === 'POST' ? r.request().postData() ?? '' : ''}`.trim());
    if (what === 'bundle' && method === 'PUT') state = { ...state, waiting: { version: '9.1.0', counter: 8, created: '2027-01-10T03:04:05Z', size: 11_000_000, moves: true } };
    if (what === 'install') state = { ...state, waiting: null, running: 'install' };
    return r.fulfill({ json: state });
  });
  await page.reload();
  await settled(page);
  await page.locator('input[type=file]').setInputFiles({ name: 'yunbox.yup', mimeType: 'application/octet-stream', buffer: Buffer.from('a bundle') });
  const waiting = page.getByRole('region', { name: /9\.1\.0/ });
  await waiting.getByText('11 MB').waitFor();
  await sound(page, 'an update that waits');
  await waiting.getByRole('button', { name: 'Install' }).click();
  await page.getByText('An update runs').waitFor();
  assert.deepEqual(asked, ['PUT bundle', 'POST install {"counter":8}']);
  // The box is away while it changes, and asked until it is back.
  away = true;
  await page.getByText('cannot be reached').waitFor();
  away = false;
  state = { ...state, running: null, version: '9.1.0', counter: 8, previous: version, last: { outcome: 'kept', version: '9.1.0', runs: '9.1.0' } };
  await page.getByRole('button', { name: 'Go back to ' + version }).waitFor();
  await page.getByRole('button', { name: '中文' }).click();
  state = { ...state, last: { outcome: 'back', version: '9.2.0', runs: '9.1.0' } };
  await visit(page, 'storage');
  await visit(page, 'update');
  await page.getByText('9.2.0').waitFor();
  await sound(page, 'an update that was given up, in Chinese');
  assert.deepEqual(page.faults, []);
});

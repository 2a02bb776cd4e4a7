// What people tell about themselves, where they signed in from, and what the browser keeps. R04 R16 R33 R39
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBox } from './box.mjs';
import { launch, open, settled, sound, visit } from './browser.mjs';

const owner = { name: 'lin', password: 'quiet harbour seven lamps' };
let box, browser;

before(async () => {
  [box, browser] = await Promise.all([startBox(), launch()]);
  const secret = new URL((await box.label()).pair_uri).searchParams.get('s');
  const { token } = JSON.parse((await box.ask('POST', '/v1/bind', { body: { secret, username: owner.name, password: owner.password } })).body);
  const { revision } = JSON.parse((await box.ask('GET', '/v1/policy', { token })).body);
  for (const p of ['storage', 'profile_details', 'usage_logs', 'device_info']) await box.ask('PUT', '/v1/consents/' + p, { token, body: { granted: true, policy_revision: revision } });
});
after(async () => {
  await browser?.close();
  await box?.remove();
});

for (const [width, lang, change, show, whole, forget] of [
  [390, 'zh', '修改：电子邮箱', '显示内容', '显示完整地址', '删除偏好和未完成的上传'],
  [1280, 'en', 'Change: E-mail address', 'Show what it says', 'Show whole addresses', 'Delete preferences and unfinished uploads'],
]) {
  test(`a person tells, sees and deletes what is about them, ${width} px, ${lang}`, async () => {
    const page = await open(browser, box, { viewport: { width, height: 860 } });
    await settled(page);
    if (lang === 'zh') await page.locator('button.lang').click();
    await page.locator('input').first().fill(owner.name);
    await page.locator('input[type=password]').fill(owner.password);
    await page.locator('form button[type=submit]').click();
    await page.locator('.shell').waitFor();

    // The page is fetched when it is opened.
    await visit(page, 'account');
    await page.reload(); // the list was there before the browser said what it is
    await settled(page);
    await page.locator('.lines small', { hasText: /Chrome \d+/ }).first().waitFor();
    await page.locator('a[href="#/me"]').click();
    await page.locator('.me-profile .lines').waitFor();
    await settled(page);
    await page.getByRole('button', { name: change }).click();
    const dialog = page.getByRole('dialog');
    await dialog.locator('input').fill('lin.yan@example.com');
    await sound(page, 'change a detail');
    await dialog.locator('button[type=submit]').click();
    await dialog.waitFor({ state: 'detached' });
    const profile = page.locator('.me-profile');
    await profile.getByText('l***@example.com').waitFor();
    assert.equal(await page.getByText('lin.yan@example.com').count(), 0);
    await profile.getByRole('button', { name: show }).click();
    await profile.getByText('lin.yan@example.com').waitFor();

    await page.locator('.me-profile input[type=file]').setInputFiles({
      name: 'me.svg.png', mimeType: 'image/png',
      buffer: Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==', 'base64'),
    });
    // One that was there before is taken away while the new one comes.
    await page.waitForFunction(() => document.querySelector('.me-profile img')?.naturalWidth > 0);

    const signIns = page.locator('.me-signins');
    await signIns.getByText('127.0.0.*').first().waitFor();
    assert.equal(await signIns.getByText('127.0.0.1').count(), 0);
    await signIns.getByRole('button', { name: whole }).click();
    await signIns.getByText('127.0.0.1').first().waitFor();
    await page.locator('.me-usage .lines > li', { hasText: 'account' }).first().waitFor();
    await sound(page, 'me');

    // The list of what the browser keeps is what it keeps, after all pages were used.
    await page.evaluate(() => localStorage.setItem('yunbox.folder', 'Photos')); // as an upload leaves it
    for (const p of ['files', 'upload', 'consents', 'storage', 'duplicates', 'data', 'trash', 'guardian', 'rights', 'outside', 'me']) await visit(page, p);
    const listed = await page.locator('[data-keeps]').evaluateAll((all) => all.map((e) => e.dataset.keeps));
    const kept = async () => ({
      cookies: (await page.context().cookies()).map((c) => c.name),
      local: await page.evaluate(() => Object.keys(localStorage)),
      session: await page.evaluate(() => Object.keys(sessionStorage)),
      databases: await page.evaluate(async () => (await indexedDB.databases()).map((d) => d.name)),
      caches: await page.evaluate(() => caches.keys()),
    });
    const all = Object.values(await kept()).flat();
    assert.deepEqual(all.filter((name) => !listed.includes(name)), [], 'the browser keeps what is not listed');
    assert.deepEqual(listed.filter((name) => !all.includes(name) && !name.startsWith('__Host-yunbox-') && !(lang === 'en' && name === 'yunbox.lang')), [], 'what is listed does not exist');
    await page.getByRole('button', { name: forget }).click();
    await page.waitForFunction(() => Object.keys(localStorage).length === 0);
    assert.deepEqual((await kept()).cookies, ['__Host-yunbox'], 'who deletes preferences stays signed in');
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });
}

// What the box holds about a person, and the archive of it, in a real browser. R26
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
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
  for (const p of ['storage', 'album_backup']) await box.ask('PUT', '/v1/consents/' + p, { token, body: { granted: true, policy_revision: revision } });
  for (let i = 0; i < 60; i++) await box.ask('PUT', `/v1/files/DCIM/IMG_${i}.jpg?source=album`, { token, body: 'photo ' + i });
});
after(async () => {
  await browser?.close();
  await box?.remove();
});

for (const [width, lang, title, prepare, show, files] of [
  [390, 'zh', '盒子保存的您的数据', '准备归档', '查看每条记录：文件', '60 条'],
  [1280, 'en', 'What the box holds about you', 'Prepare the archive', 'Show each record: Files', '60 records'],
]) {
  test(`a person sees and takes what the box holds, ${width} px, ${lang}`, async () => {
    const page = await open(browser, box, { viewport: { width, height: 860 } }, (c) => c.addInitScript((l) => localStorage.setItem('yunbox.lang', l), lang));
    await settled(page);
    await page.locator('input').first().fill(owner.name);
    await page.locator('input[type=password]').fill(owner.password);
    await page.locator('form button[type=submit]').click();
    await page.locator('.shell').waitFor();
    await visit(page, 'account');
    await page.locator('a[href="#/data"]').click();
    await page.getByRole('heading', { name: title, level: 1 }).waitFor();
    await settled(page);
    const kind = page.locator('.data-kind', { hasText: files }).filter({ has: page.getByLabel(show) });
    await kind.getByLabel(show).click();
    await kind.locator('.lines > li').nth(49).waitFor();
    assert.equal(await kind.locator('.lines > li').count(), 50);
    await kind.locator('.load-more button').click();
    await kind.locator('.lines > li').nth(59).waitFor();
    await sound(page, 'data');
    await kind.getByRole('button', { name: /IMG_7\.jpg/ }).click();
    const dialog = page.getByRole('dialog');
    await dialog.locator('input').first().fill(`DCIM/right-${width}.jpg`);
    await dialog.locator('input[type=datetime-local]').fill('2020-02-29T12:00:00');
    await sound(page, 'correct');
    await dialog.locator('button[type=submit]').click();
    await dialog.waitFor({ state: 'detached' });
    await kind.locator('.lines > li', { hasText: `right-${width}.jpg` }).waitFor();
    const { token } = JSON.parse((await box.ask('POST', '/v1/session', { body: { username: owner.name, password: owner.password } })).body);
    await box.ask('PATCH', '/v1/items/' + JSON.parse((await box.ask('GET', '/v1/items?recursive=true', { token })).body).items.find((i) => i.name === `right-${width}.jpg`).id, { token, body: { path: 'DCIM/IMG_7.jpg' } });

    await page.getByRole('button', { name: prepare }).click();
    const [archive] = await Promise.all([page.waitForEvent('download'), page.locator('a[download]').click()]);
    const bytes = readFileSync(await archive.path());
    assert.match(archive.suggestedFilename(), /^yunbox-\d{4}-\d\d-\d\d\.tar$/);
    assert.ok(bytes.includes('files/DCIM/IMG_59.jpg') && bytes.includes('photo 59'), 'the archive has the photo');
    await sound(page, 'export');
    await page.locator('.row-end button').first().click(); // removes it, for the next one
    await page.getByRole('button', { name: prepare }).waitFor();
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });
}

// R20 R23 R25: who declines the policy is told what is left, and can come back.
for (const [width, lang, words] of [
  [390, 'zh', { decline: '不同意隐私政策', left: '你仍可查看、取回、导出和删除', tick: '我已阅读', accept: '接受', changed: '这是第一版', unasked: '无需询问的事项', erased: '文件的指纹', more: '政策的历次更新' }],
  [1280, 'en', { decline: 'Decline the policy', left: 'You can still see, fetch, export and delete', tick: 'I have read the privacy policy', accept: 'Accept', changed: 'This is the first revision', unasked: 'Done without asking', erased: 'The fingerprints of your files', more: 'Changes of the policy' }],
]) {
  test(`a person declines the policy and accepts it again, ${width} px, ${lang}`, async () => {
    const page = await open(browser, box, { viewport: { width, height: 860 } }, (c) => c.addInitScript((l) => localStorage.setItem('yunbox.lang', l), lang));
    await settled(page);
    await page.locator('input').first().fill(owner.name);
    await page.locator('input[type=password]').fill(owner.password);
    await page.locator('form button[type=submit]').click();
    await page.locator('.shell').waitFor();
    await visit(page, 'consents');
    await page.getByText(words.erased).waitFor();
    await page.getByText(words.more).click();
    await page.getByText(words.changed).waitFor();
    await page.getByText(words.unasked).waitFor();
    await page.getByRole('button', { name: words.decline }).click();
    await sound(page, 'declining');
    await page.locator('.note').getByRole('button', { name: words.decline }).click();
    await page.locator('.note.warn', { hasText: words.left }).waitFor();
    assert.equal(await page.getByRole('switch', { checked: true }).count(), 0);
    await sound(page, 'declined');
    await page.getByLabel(words.tick).check();
    await page.getByRole('button', { name: words.accept, exact: true }).click();
    await page.locator('.note.warn', { hasText: words.left }).waitFor({ state: 'detached' });
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });
}

// Debian's Chromium, driven by playwright-core, and what every page is held to.
import assert from 'node:assert/strict';
import Axe from '@axe-core/playwright';
import { chromium } from 'playwright-core';

const program = {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
  ],
};
const ordinary = { locale: 'en-GB', viewport: { width: 1280, height: 860 }, ignoreHTTPSErrors: true };
export const launch = () => chromium.launch(program);

/** A page of a new context, which prepare may change first. */
export async function open(browser, box, options = {}, prepare = async () => {}) {
  const context = await browser.newContext({ ...ordinary, ...options });
  await prepare(context);
  return watched(await context.newPage(), box);
}

/** A page of a browser of its own that keeps all it knows in profile, as a restarted one does; script runs before those of the page. */
export async function reopen(profile, box, options, script, where = '') {
  const context = await chromium.launchPersistentContext(profile, { ...program, ...ordinary, ...options });
  await context.addInitScript(script);
  return watched(context.pages()[0] ?? (await context.newPage()), box, where);
}

/** Collects what must not happen: script errors, refused loads, requests to anybody else. */
async function watched(page, box, where = '') {
  page.setDefaultTimeout(120_000);
  const faults = [];
  page.on('pageerror', (e) => faults.push(String(e)));
  page.on('console', (m) => {
    // The browser itself reports every status above 399; those that a test asks for are part of it.
    if (m.type() === 'error' && !m.text().startsWith('Failed to load resource')) faults.push(m.text());
  });
  page.on('request', (r) => {
    if (!r.url().startsWith(box.url) && !/^(blob|data):/.test(r.url())) faults.push('asked ' + r.url());
  });
  page.faults = faults;
  await page.goto(`${box.url}/${where ? '#/' + where : ''}`);
  return page;
}

/** Goes to a page of the application and waits until it has its answer. */
export async function visit(page, where) {
  await page.evaluate((h) => (location.hash = h), '#/' + where);
  await settled(page);
}

export async function settled(page) {
  await page.locator('h1').first().waitFor();
  await page.locator('.loading').first().waitFor({ state: 'detached' });
}

export async function sound(page, where) {
  // Legacy mode judges the page itself, without a second one for frames, which it does not have.
  const axe = new Axe({ page }).options({ resultTypes: ['violations'] }).withTags(['wcag2a', 'wcag2aa']).setLegacyMode(true);
  const { violations } = await axe.analyze();
  assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target).join(', ')}`), [], `${where}: axe`);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth <= 0), true, `${where}: wider than the window`);
}

// Chromium for the tests: every page notes what its console complains about, and what is on its canvases can be asked
// for.
import fs from 'node:fs';
import path from 'node:path';

import { transformSync } from '@swc/core';
import { chromium } from 'playwright-core';

import { root } from './stack.mjs';

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

const CANDIDATES = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

export async function launch() {
  const executablePath = CANDIDATES.find((file) => file && fs.existsSync(file));
  if (!executablePath) {
    throw new Error('No Chromium is installed: install the package chromium, or set CHROMIUM to the path of one.');
  }
  // Its profile is a temporary one that goes with it.
  return chromium.launch({ executablePath, args: FLAGS });
}

/**
 * A page that collects in `complaints` what its console says as a warning or an error, and exceptions nobody caught.
 */
export async function openPage(browser, url, { width = 1400, height = 1000 } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, reducedMotion: 'reduce' });
  // On a machine that builds beside the tests a page may take its time.
  context.setDefaultTimeout(90_000);
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') {
      complaints.push(`${message.type()}: ${message.text()} (${message.location().url})`);
    }
  });
  // The console says only that a request failed; this says why.
  page.on('response', (response) => {
    if (response.status() >= 400) {
      const where = new URL(response.url()).pathname;
      response.text().then(
        (text) => complaints.push(`answer ${response.status()} of ${where}: ${text.slice(0, 500)}`),
        () => undefined
      );
    }
  });
  page.on('pageerror', (error) => complaints.push(`exception: ${error.stack ?? error.message}`));
  await page.goto(url, { waitUntil: 'domcontentloaded' });
  return { page, complaints, close: () => context.close() };
}

const shots = path.join(root, 'e2e', 'screenshots');

export async function shoot(page, name) {
  fs.mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true });
}

/** The test ids of the bundle, from its own source. */
export async function testIds() {
  const source = fs.readFileSync(path.join(root, 'src', 'selectors.ts'), 'utf8');
  const { code } = transformSync(source, { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' }, module: { type: 'es6' } });
  const module = await import(`data:text/javascript,${encodeURIComponent(code)}`);
  return module.selectors;
}

/** The address of the preview's explore view with a query. */
export function explore(base, query, params = {}) {
  const all = new URLSearchParams({ view: 'explore', refresh: '0', from: 'now-5m', query: JSON.stringify({ version: 1, ...query }), ...params });
  return `${base}/?${all}`;
}

/** How much of a panel's canvases is painted in colours that are not grey: share of their pixels. */
export function painted(panel) {
  return panel.evaluate((element) => {
    let all = 0;
    let coloured = 0;
    for (const canvas of element.querySelectorAll('canvas')) {
      if (canvas.width === 0 || canvas.height === 0) {
        continue;
      }
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      for (let i = 0; i < data.length; i += 4) {
        all++;
        const [r, g, b, a] = [data[i], data[i + 1], data[i + 2], data[i + 3]];
        if (a > 20 && Math.max(r, g, b) - Math.min(r, g, b) > 24) {
          coloured++;
        }
      }
    }
    return all ? coloured / all : 0;
  });
}

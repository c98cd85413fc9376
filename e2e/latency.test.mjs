// From an event in a Go program to the pixel that shows it: the demo logs when it changes between busy and idle, the
// page notes in which animation frame the newest column of the state timeline changes its colour. Both read the same
// clock.
import assert from 'node:assert/strict';
import os from 'node:os';
import { after, before, describe, test } from 'node:test';

import { explore, launch, openPage } from './lib/browser.mjs';
import { startStack, until } from './lib/stack.mjs';

// The bar, in milliseconds. The figure is printed beside it and judged by a person: how long something takes on a
// shared machine is no test.
const BAR = 250;
const FLIPS = 12;

let stack;
let browser;

before(async () => {
  [stack, browser] = await Promise.all([startStack({ demoArgs: ['--phases', 'busy,idle', '--phase-seconds', '1.5'] }), launch()]);
});

after(async () => {
  await browser?.close();
  await stack?.stop();
});

/**
 * Has the page note when the right end of the lanes becomes "running" green, and when it stops being so. Runs in the
 * page.
 */
function watchNewestColumn() {
  const seen = [];
  window.flips = seen;
  const look = () => {
    const canvas = document.querySelector('[data-testid="preview-panel-1"] canvas');
    const over = document.querySelector('[data-testid="preview-panel-1"] .u-over');
    if (canvas && over && canvas.width > 0) {
      const scale = canvas.width / canvas.getBoundingClientRect().width;
      const right = Math.round((over.offsetLeft + over.offsetWidth) * scale);
      const top = Math.round(over.offsetTop * scale);
      const { data } = canvas.getContext('2d').getImageData(right - 3, top, 2, Math.round(over.offsetHeight * scale));
      let green = 0;
      let grey = 0;
      for (let i = 0; i < data.length; i += 4) {
        green += data[i] === 0x00 && data[i + 1] === 0x9e && data[i + 2] === 0x73 ? 1 : 0;
        grey += data[i] === 0x7a && data[i + 1] === 0x7f && data[i + 2] === 0x87 ? 1 : 0;
      }
      const now = green > grey ? 'busy' : grey > 0 ? 'idle' : undefined;
      if (now && now !== seen.at(-1)?.phase) {
        seen.push({ phase: now, at: performance.timeOrigin + performance.now() });
      }
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

describe('event to pixel', () => {
  for (const [name, query] of [
    ['Grafana Live, 5 a second', { live: true }],
    ['gRPC-Web, 60 a second', { live: true, rateHz: 60 }],
  ]) {
    test(name, async (t) => {
      const target = { process: 'pscope-demo', pid: String(stack.demo.pid) };
      const { page, close } = await openPage(browser, explore(stack.url, { kind: 'timeline', ...query, target }, { from: 'now-1m' }), { width: 1200, height: 800 });
      try {
        await until('it streams', async () => (await page.getByTestId('preview-panel-1').getAttribute('data-state')) === 'Streaming', 40);
        await page.waitForTimeout(3000);
        await page.evaluate(watchNewestColumn);
        await page.waitForTimeout(FLIPS * 1500);
        const flips = (await page.evaluate(() => window.flips)).slice(1);
        const events = stack.demo.lines.map((line) => JSON.parse(line)).filter((e) => e.event === 'begin');
        const taken = [];
        for (const { time_unix_nano, phase } of events) {
          const event = time_unix_nano / 1e6;
          const pixel = flips.find((f) => f.phase === phase && f.at >= event && f.at < event + 1400);
          if (pixel && event > flips[0].at) {
            taken.push(pixel.at - event);
          }
        }
        taken.sort((a, b) => a - b);
        const busy = os.loadavg()[0] / os.cpus().length;
        const [median, worst] = [taken[Math.floor(taken.length / 2)], taken.at(-1)];
        t.diagnostic(
          `event to pixel, ${name}: median ${median?.toFixed(0)} ms, worst ${worst?.toFixed(0)} ms of ${taken.length}; the bar is ${BAR} ms (load ${busy.toFixed(1)} per processor)`
        );
        assert.ok(taken.length >= FLIPS / 2, `only ${taken.length} of ${FLIPS} changes were seen`);
      } finally {
        await close();
      }
    });
  }
});

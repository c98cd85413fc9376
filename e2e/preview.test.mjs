// The real bundle in Chromium, with the real plugin, a real agent and a Go program whose picture is known.
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { boards, panelId } from './lib/boards.mjs';
import { explore, launch, openPage, painted, shoot, testIds } from './lib/browser.mjs';
import { json, startStack, until } from './lib/stack.mjs';

let stack;
let browser;
let ids;

before(async () => {
  [stack, browser, ids] = await Promise.all([startStack(), launch(), testIds()]);
  // One round of the demo's script, so that every state and a few stops are in the history.
  await until('the demo has played its script once', () => stack.demo.lines.filter((l) => l.includes('"begin"')).length > 5, 60);
});

after(async () => {
  await browser?.close();
  await stack?.stop();
});

/** Runs `body` with a page of the preview; fails when its console complained, unless what it said is expected. */
async function withPage(url, body, { expected = [], ...size } = {}) {
  const { page, complaints, close } = await openPage(browser, url, size);
  try {
    await body(page);
    // The one complaint the tests cause themselves, by reading canvases.
    const known = [/willReadFrequently/, ...expected];
    const unexpected = complaints.filter((text) => !known.some((pattern) => pattern.test(text)));
    assert.deepEqual(unexpected, [], 'the console is silent');
  } finally {
    await close();
  }
}

const demoOnly = () => ({ target: { process: 'pscope-demo', pid: String(stack.demo.pid) } });
const post = (where, headers, body) =>
  json(stack.url + where, { method: 'POST', headers: { 'Content-Type': 'application/json', ...headers }, body: JSON.stringify(body) });
const panelOf = (page) => page.getByTestId('preview-panel-1');
const state = (panel) => panel.getAttribute('data-state');
const updates = async (panel) => Number(await panel.getAttribute('data-updates'));

/** Waits until a panel has an answer; resolves to its state. */
async function answered(panel, seconds = 30) {
  await panel.waitFor({ timeout: seconds * 1000 });
  return until('the panel has an answer', async () => (await updates(panel)) > 0 && state(panel), seconds);
}

/** A panel either draws, with what its kind needs, or says in words why there is nothing. */
async function drawsSomething(panel, type) {
  const error = panel.getByTestId('preview-error');
  if (await error.count()) {
    assert.fail(`the panel says: ${await error.innerText()}`);
  }
  switch (type) {
    case 'heatmap':
    case 'state-timeline':
      assert.ok((await painted(panel)) > 0.0005, 'something coloured is on the canvas');
      assert.equal(await panel.getByTestId('preview-legend').count(), 1, 'it has a legend');
      break;
    case 'timeseries':
      assert.ok((await painted(panel)) > 0.0002, 'a coloured line is on the canvas');
      assert.ok((await panel.locator('[data-testid^="data-testid VizLegend series"], button[class*="LegendLabel"], li').count()) > 0, 'it has a legend');
      break;
    case 'table':
      assert.ok((await panel.getByRole('row').count()) > 1, 'it has rows');
      break;
    case 'piechart':
      assert.ok((await panel.locator('svg[role="img"] path').count()) > 0, 'it has slices');
      break;
    case 'stat':
      assert.match(await panel.innerText(), /\d/, 'it shows a number');
      break;
    default:
      assert.fail(`no check for panels of type ${type}`);
  }
}

describe('settings', () => {
  test('save & test is green and says what the agent observes', async () => {
    await withPage(`${stack.url}/?view=config`, async (page) => {
      await page.getByTestId(ids.configEditor).waitFor();
      assert.equal(await page.getByTestId(ids.config('socketPath')).inputValue(), stack.socket, 'the provisioned settings are shown');
      await page.getByTestId('preview-save').click();
      const health = page.locator('[data-testid="preview-health"]:not([data-severity="info"])');
      await health.waitFor();
      assert.equal(await health.getAttribute('data-severity'), 'success');
      assert.match(await health.innerText(), /observes \d+ Go process/);
      await shoot(page, 'settings-dark');
    });
  });

  test('a socket where nothing listens: the message says what to do', async () => {
    await withPage(
      `${stack.url}/?view=config`,
      async (page) => {
        const socket = page.getByTestId(ids.config('socketPath'));
        const outcome = page.locator('[data-testid="preview-health"]:not([data-severity="info"])');
        try {
          await page.getByTestId(ids.config('startAgent')).uncheck({ force: true });
          const nobody = path.join(path.dirname(stack.socket), 'nobody.sock');
          await socket.fill(nobody);
          await page.getByTestId('preview-save').click();
          await outcome.waitFor();
          assert.equal(await outcome.getAttribute('data-severity'), 'error');
          assert.ok((await outcome.innerText()).includes(nobody), 'it names the socket');
          assert.match(await outcome.innerText(), /pscope\S* agent/, 'it names the command');
        } finally {
          // As it was, for the tests to come.
          await socket.fill(stack.socket);
          await page.getByTestId(ids.config('startAgent')).check({ force: true });
          await page.getByTestId('preview-save').click();
          await page.locator('[data-testid="preview-health"][data-severity="success"]').waitFor();
        }
      },
      { expected: [/status of 400/, /^answer 400/] }
    );
  });
});

describe('boards', () => {
  // What happened to nothing here is rightly empty, and says so; a virtual machine shows no CPU frequency.
  const mayBeEmpty = new Set([
    ...['Events lost a second, by reason', 'Reconciliations, by reason', 'Lost events', 'Diagnosis', 'What stands out', 'Global run queue', 'D share by P'],
    ...['Clock', 'CPU frequency, by CPU', 'CPU time by frequency band', 'CPU frequency: slowest, average and fastest CPU'],
    'Goroutine migrations by P', // not asked for
    ...['CPU quota', 'Pressure of the control group'], // no quota is set, and cgroup v1 has no pressure
  ]);

  for (const board of boards) {
    test(`every panel of "${board.title}" draws`, async () => {
      const url = `${stack.url}/?board=${board.uid}&from=now-5m&refresh=5&var-process=pscope-demo&var-pid=${stack.demo.pid}`;
      await withPage(
        url,
        async (page) => {
          const failures = [];
          for (const { id, type, title, fieldConfig } of board.panels.filter((p) => p.type !== 'row')) {
            const panel = page.getByTestId(`preview-panel-${id}`);
            try {
              await answered(panel);
              await until('it draws', async () => {
                const words = fieldConfig?.defaults?.noValue;
                const empty = async () => (await panel.getByTestId('preview-empty').count()) || (words && (await panel.innerText()).includes(words));
                if (mayBeEmpty.has(title) && (await empty())) {
                  return true;
                }
                await drawsSomething(panel, type);
                return true;
              }, 20);
            } catch (error) {
              failures.push(`${title} (${type}): ${error.message}`);
            }
          }
          await shoot(page, `board-${board.uid}-dark`);
          assert.deepEqual(failures, []);
        },
        { width: 1600, height: 1200 }
      );
    });
  }

  test('the light theme draws the same board', async () => {
    await withPage(`${stack.url}/?theme=light&from=now-5m&var-process=pscope-demo&var-pid=${stack.demo.pid}`, async (page) => {
      const panel = page.getByTestId(`preview-panel-${panelId('pscope-process', 'P states: busy share')}`);
      await answered(panel);
      await until('it draws', () => drawsSomething(panel, 'heatmap').then(() => true));
      await page.waitForTimeout(3000);
      await shoot(page, 'board-pscope-process-light');
      const background = await page.locator('main').evaluate((e) => getComputedStyle(e.parentElement).backgroundColor);
      const [r] = background.match(/\d+/g).map(Number);
      assert.ok(r > 200, `the page is light: ${background}`);
    }, { width: 1600, height: 1200 });
  });
});

describe('query kinds', () => {
  const kinds = [
    { kind: 'heatmap', type: 'heatmap' },
    { kind: 'heatmap', metric: 'wake_wait', type: 'heatmap' },
    { kind: 'heatmap', metric: 'runq', type: 'heatmap' },
    { kind: 'timeline', type: 'state-timeline' },
    { kind: 'series', metric: 'state', by: ['state'], type: 'timeseries' },
    { kind: 'series', metric: 'thread', by: ['thread_state'], type: 'timeseries' },
    { kind: 'series', editorMode: 'code', expr: 'sum by (p) (rate(pscope_p_sched_ticks_total[$__rate_interval]))', type: 'timeseries' },
    { kind: 'stops', type: 'table' },
    { kind: 'blocked', type: 'table' },
    { kind: 'diagnosis', type: 'table', mayBeEmpty: true },
    { kind: 'targets', type: 'table' },
  ];
  for (const { type, mayBeEmpty, ...query } of kinds) {
    const name = [query.kind, query.metric, query.editorMode].filter(Boolean).join(' ');
    test(`${name}: the editor renders and the query draws`, async () => {
      const asked = query.editorMode === 'code' ? query : { ...query, ...demoOnly() };
      await withPage(explore(stack.url, asked), async (page) => {
        await page.getByTestId(ids.queryEditor).waitFor();
        const panel = panelOf(page);
        await answered(panel);
        await until('it draws', async () => {
          if (mayBeEmpty && (await panel.getByTestId('preview-empty').count())) {
            return true;
          }
          await drawsSomething(panel, type);
          return true;
        }, 15);
        await shoot(page, `explore-${name.replaceAll(' ', '-')}`);
      });
    });
  }

  test('an empty query draws a heatmap', async () => {
    const { results } = await post('/api/ds/query', {}, { from: 'now-2m', to: 'now', queries: [{ refId: 'A', datasource: { uid: 'pscope' } }] });
    const [frame] = results.A.frames;
    assert.equal(frame.schema.meta.type, 'heatmap-rows');
    assert.ok(frame.schema.fields.length > 1 && frame.data.values[0].length > 1, 'it has lanes and rows');
  });

  for (const [name, query, wanted] of [
    ['a kind that has no answer yet', { kind: 'profile' }, /profile/i],
    ['a kind nobody knows', { kind: 'nonsense' }, /nonsense/],
    ['PromQL that does not parse', { kind: 'series', editorMode: 'code', expr: 'sum(' }, /parse|PromQL/i],
    ['a selector that is no regular expression', { kind: 'series', target: { process: '(' } }, /regular expression|missing closing/i],
  ]) {
    test(`${name}: a clear error, and the editor stays usable`, async () => {
      await withPage(
        explore(stack.url, query),
        async (page) => {
          await page.getByTestId(ids.queryEditor).waitFor();
          const error = panelOf(page).getByTestId('preview-error');
          await error.waitFor();
          assert.match(await error.innerText(), wanted);
        },
        { expected: [/status of 4\d\d/, /^answer 4\d\d/] }
      );
    });
  }

  test('an alert rule gets series, or an error', async () => {
    const ask = async (query) => {
      const whole = { refId: 'A', datasource: { uid: 'pscope' }, intervalMs: 1000, maxDataPoints: 100, version: 1, ...query, ...demoOnly() };
      return (await post('/api/ds/query', { FromAlert: 'true' }, { from: 'now-2m', to: 'now', queries: [whole] })).results.A;
    };
    const shares = await ask({ kind: 'heatmap', live: true });
    const asSeries = shares.frames.every(({ schema: { meta } }) => meta?.type === 'timeseries-multi' && !meta.channel);
    assert.ok(shares.frames.length > 0 && asSeries, 'a heatmap becomes series, without a stream');
    const diagnosis = await ask({ kind: 'diagnosis' });
    assert.match(diagnosis.error ?? '', /alert/i, 'a table says that it is none for alerts');
  });
});

describe('the editor by keyboard', () => {
  test('kind and metric are chosen without a mouse, every field is reached and has a name', async () => {
    await withPage(explore(stack.url, { kind: 'series', ...demoOnly() }), async (page) => {
      const editor = page.getByTestId(ids.queryEditor);
      await editor.waitFor();
      await page.evaluate(() => document.querySelector('[data-testid="pscope-query-editor"]').scrollIntoView());
      const focused = () =>
        page.evaluate(() => {
          const e = document.activeElement;
          const inside = Boolean(e?.closest('[data-testid="pscope-query-editor"]'));
          const label = e?.getAttribute('aria-label') || (e?.id && document.querySelector(`label[for="${CSS.escape(e.id)}"]`)?.textContent) || (e?.labels?.[0]?.textContent ?? '') || e?.textContent;
          const ring = e ? getComputedStyle(e) : undefined;
          return { inside, id: e?.getAttribute('data-testid') ?? '', tag: e?.tagName, label: (label ?? '').trim(), ring: ring ? `${ring.outlineStyle} ${ring.boxShadow} ${ring.borderColor}` : '' };
        });
      // Into the editor from the page's toolbar.
      let at = await focused();
      for (let i = 0; i < 60 && !at.inside; i++) {
        await page.keyboard.press('Tab');
        at = await focused();
      }
      assert.ok(at.inside, 'Tab leads into the editor');
      const seen = [];
      for (let i = 0; i < 60 && at.inside; i++) {
        seen.push(at);
        await page.keyboard.press('Tab');
        at = await focused();
      }
      assert.ok(!at.inside, 'and out of it again');
      // Grafana's own tooltip icons behind labels are stops too; their text shows when they have the focus.
      const nameless = seen.filter((s) => !s.label && !s.id.startsWith('icon-'));
      assert.deepEqual(nameless, [], 'every stop has a name');
      for (const field of ['kind', 'metric', 'process', 'ps', 'live']) {
        const reached = await page.getByTestId(ids.field(field)).count();
        assert.ok(reached > 0, `the field ${field} is there`);
        assert.ok(seen.some((s) => s.id === ids.field(field)), `the field ${field} is reached by Tab`);
      }

      // Back to the kind; what is tabbed to is selected, so typing replaces it.
      for (let i = 0; i < 80 && at.id !== ids.field('kind'); i++) {
        await page.keyboard.press('Shift+Tab');
        at = await focused();
      }
      await page.keyboard.type('Timeline');
      await page.getByRole('option', { name: /^Timeline/ }).waitFor();
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('Enter');
      await until('the kind is timeline', async () => (await page.evaluate(() => JSON.parse(new URLSearchParams(location.search).get('query')).kind)) === 'timeline');
      await until('the panel follows', async () => (await panelOf(page).getAttribute('data-panel-type')) === 'state-timeline');
      await until('it draws', () => drawsSomething(panelOf(page), 'state-timeline').then(() => true));
    });
  });
});

/** Updates a panel gets within some seconds, per second. */
async function rate(panel, seconds) {
  const from = await updates(panel);
  const began = Date.now();
  await panel.page().waitForTimeout(seconds * 1000);
  return ((await updates(panel)) - from) / ((Date.now() - began) / 1000);
}

describe('live streams', () => {
  // While the agent is away, requests rightly fail, and Chromium says so in the console.
  const expected = [/status of (4|5)\d\d/, /^answer (4|5)\d\d/, /ERR_/];

  before(async () => {
    // A plugin that starts the bundled agent in the place of the one that is killed would heal the stream before
    // anybody saw it broken.
    const jsonData = { mode: 'local', socketPath: stack.socket, startAgent: false };
    const response = await fetch(`${stack.url}/api/datasources/uid/pscope`, {
      method: 'PUT',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ jsonData }),
    });
    assert.equal(response.status, 200);
  });

  const cases = [
    { name: 'Grafana Live, 5 a second', query: { kind: 'heatmap', live: true }, type: 'heatmap', least: 3, most: 7, watch: 0 },
    { name: 'gRPC-Web, 20 a second', query: { kind: 'timeline', live: true, rateHz: 20 }, type: 'state-timeline', least: 10, most: 25, watch: 1 },
  ];
  for (const { name, query, type, least, most, watch } of cases) {
    test(`${name}: delivers, survives the agent's end and comes back`, async (t) => {
      let watches = 0;
      await withPage(
        'about:blank',
        async (page) => {
          page.on('request', (request) => {
            watches += request.url().endsWith('pscope.v1.ScopeService/Watch') ? 1 : 0;
          });
          await page.goto(explore(stack.url, { ...query, ...demoOnly() }));
          const panel = panelOf(page);
          await until('it streams', async () => (await state(panel)) === 'Streaming' && (await updates(panel)) > 5);
          const perSecond = await rate(panel, 5);
          t.diagnostic(`${name}: ${perSecond.toFixed(1)} frames/s`);
          assert.ok(perSecond >= least && perSecond <= most, `${perSecond} frames a second`);
          assert.ok(watch ? watches >= 1 : watches === 0, `${watches} Watch streams from the page`);
          await drawsSomething(panel, type);
          await shoot(page, `live-${watch ? 'grpc-web' : 'grafana-live'}`);

          await stack.agent.stop('SIGKILL');
          const said = await until('the panel says that the stream broke', () => problemOf(panel), 60);
          t.diagnostic(`${name}: while the agent is away it says: ${said}`);
          assert.match(said, /agent|stream|socket/i);

          await stack.startAgent();
          const back = Date.now();
          await until('it streams again', async () => (await state(panel)) === 'Streaming' && !(await problemOf(panel)) && (await rate(panel, 1)) > 1, 40);
          t.diagnostic(`${name}: streams again ${((Date.now() - back) / 1000).toFixed(1)} s after the agent is ready`);
          await until('it draws', () => drawsSomething(panel, type).then(() => true));
        },
        { expected }
      );
    });
  }

  test('two panels share one gRPC-Web stream, and it ends with them', async () => {
    let watches = 0;
    await withPage('about:blank', async (page) => {
      page.on('request', (request) => {
        watches += request.url().endsWith('pscope.v1.ScopeService/Watch') ? 1 : 0;
      });
      await page.goto(explore(stack.url, { kind: 'heatmap', live: true, rateHz: 20, ...demoOnly() }));
      await until('it streams', async () => (await updates(panelOf(page))) > 20);
      await page.waitForTimeout(2000);
      assert.equal(watches, 1);
    });
  });
});

/** How the notices begin that say a stream is interrupted, from Grafana Live and from gRPC-Web. */
const BROKEN = /^Live data pause|^The live stream/;

/** What a panel says is wrong: in place of its picture, as its status, or as a notice. */
async function problemOf(panel) {
  const error = panel.getByTestId('preview-error');
  if (await error.count()) {
    return error.innerText();
  }
  const status = panel.getByTestId('data-testid Panel status error');
  if (await status.count()) {
    return (await status.first().getAttribute('aria-label')) ?? 'error';
  }
  const notices = panel.getByTestId('preview-notice');
  for (let i = 0; i < (await notices.count()); i++) {
    const text = (await notices.nth(i).getAttribute('aria-label')) ?? '';
    if (BROKEN.test(text)) {
      return text;
    }
  }
  return '';
}

// The same in a real Grafana: runs when GRAFANA_URL names one that has the plugin and P-Scope's provisioning, and whose
// admin's password is "admin". A Go program must run beside its agent; the first process the agent lists is taken.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { panelId } from './lib/boards.mjs';
import { launch, openPage, shoot, testIds } from './lib/browser.mjs';
import { Program, until } from './lib/stack.mjs';

const base = process.env.GRAFANA_URL?.replace(/\/$/, '');
const auth = { Authorization: `Basic ${Buffer.from('admin:admin').toString('base64')}`, 'Content-Type': 'application/json' };
const uid = process.env.PSCOPE_DATASOURCE ?? 'pscope';

/** One request to Grafana's API. */
async function api(method, where, body) {
  const response = await fetch(base + where, { method, headers: auth, body: body && JSON.stringify(body) });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : undefined };
}

const skip = base ? false : 'GRAFANA_URL is not set';

describe('the API of Grafana', { skip }, () => {
  test('health is green', async () => {
    const { status, body } = await api('GET', `/api/datasources/uid/${uid}/health`);
    assert.equal(status, 200, JSON.stringify(body));
    assert.match(body.message, /observes \d+ Go process/);
  });

  test('a gRPC-Web stream passes through the resource handler bit by bit', async () => {
    // An empty WatchRequest, framed for gRPC-Web and in base64.
    const response = await fetch(`${base}/api/datasources/uid/${uid}/resources/pscope.v1.ScopeService/Watch`, {
      method: 'POST',
      headers: { ...auth, 'Content-Type': 'application/grpc-web-text', Accept: 'application/grpc-web-text', 'X-Grpc-Web': '1' },
      body: Buffer.from([0, 0, 0, 0, 0]).toString('base64'),
    });
    assert.equal(response.status, 200);
    const reader = response.body.getReader();
    const times = [];
    while (times.length < 6) {
      const { done } = await reader.read();
      assert.ok(!done, 'the stream goes on');
      times.push(Date.now());
    }
    await reader.cancel();
    assert.ok(times.at(-1) - times[0] > 400, `six chunks within ${times.at(-1) - times[0]} ms were not streamed one by one`);
  });

  test('the alert rules are loaded and evaluate', async () => {
    const rules = async () => {
      const { body } = await api('GET', '/api/prometheus/grafana/api/v1/rules');
      return body.data.groups.flatMap((group) => group.rules).filter((rule) => JSON.stringify(rule).includes(`"${uid}"`) || /p-?scope/i.test(JSON.stringify(rule)));
    };
    const found = await until('every rule has been evaluated', async () => {
      const all = await rules();
      return all.length > 0 && all.every((rule) => rule.lastEvaluation && !rule.lastEvaluation.startsWith('0001')) && all;
    }, 120);
    const broken = found.filter((rule) => rule.health !== 'ok' && rule.health !== 'nodata').map((rule) => `${rule.name}: ${rule.health} ${rule.lastError ?? ''}`);
    assert.deepEqual(broken, []);
  });
});

/** Which of the panels are not drawn, and why. Runs in the page. */
function undrawn(panels) {
  const coloured = (canvas) => {
    if (canvas.width === 0 || canvas.height === 0) {
      return false;
    }
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, b, a] = [data[i], data[i + 1], data[i + 2], data[i + 3]];
      found += a > 20 && Math.max(r, g, b) - Math.min(r, g, b) > 24 ? 1 : 0;
      if (found > 50) {
        return true;
      }
    }
    return false;
  };
  const problem = (title, type, section) => {
    const error = section.querySelector('[data-testid="data-testid Panel status error"]');
    if (error) {
      return `says: ${error.getAttribute('aria-label')}`;
    }
    const text = section.innerText.replace(title, '').trim();
    if (['heatmap', 'state-timeline', 'timeseries'].includes(type)) {
      return [...section.querySelectorAll('canvas')].some(coloured) || /no data|are not counted/i.test(text) ? '' : 'has nothing on its canvas';
    }
    return text ? '' : 'is empty';
  };
  // Two panels may share a title, one of them with a number and nothing coloured.
  const problems = ({ title, type }) => {
    const sections = [...document.querySelectorAll('section')].filter((s) => s.dataset.testid === `data-testid Panel header ${title}` || s.dataset.testid?.endsWith(` ${title}`));
    const found = sections.map((section) => problem(title, type, section));
    return found.includes('') ? '' : (found[0] ?? 'is not on the page');
  };
  return panels.map((panel) => [panel.title, problems(panel)]).filter(([, why]) => why).map(([title, why]) => `${title} ${why}`);
}

describe('Grafana in Chromium', { skip }, () => {
  let browser;
  let ids;
  let cookies;

  before(async () => {
    [browser, ids] = await Promise.all([launch(), testIds()]);
    const { page, close } = await openPage(browser, `${base}/login`);
    await page.locator('input[name="user"]').fill('admin');
    await page.locator('input[name="password"]').fill('admin');
    await page.locator('button[type="submit"]').click();
    const skip = page.getByRole('button', { name: /skip/i });
    await Promise.race([skip.waitFor(), page.waitForURL((url) => !url.pathname.startsWith('/login'))]);
    if (await skip.count()) {
      await skip.click();
    }
    await page.waitForURL((url) => !url.pathname.startsWith('/login'));
    cookies = await page.context().cookies();
    await close();
  });

  after(() => browser?.close());

  async function withPage(where, body, { width = 1600, height = 1200 } = {}) {
    const { page, complaints, close } = await openPage(browser, 'about:blank', { width, height });
    try {
      await page.context().addCookies(cookies);
      complaints.length = 0;
      await page.goto(base + where, { waitUntil: 'domcontentloaded' });
      await body(page);
      // Grafana's own pages complain now and then; here only what names the plugin counts.
      const ours = complaints.filter((text) => /pscope/i.test(text) && !/willReadFrequently/.test(text));
      assert.deepEqual(ours, [], 'the console has nothing against the plugin');
    } finally {
      await close();
    }
  }

  /** The demo where it runs, else any process. */
  async function observedProcess() {
    const { body: processes } = await api('GET', `/api/datasources/uid/${uid}/resources/label-values?label=process`);
    return processes.includes('pscope-demo') ? 'pscope-demo' : processes[0];
  }

  for (const theme of ['dark', 'light']) {
    test(`every panel of the process board draws (${theme})`, async () => {
      const { body } = await api('GET', '/api/dashboards/uid/pscope-process');
      const panels = body.dashboard.panels.filter((p) => p.type !== 'row');
      const process = await observedProcess();
      await withPage(
        `/d/pscope-process?from=now-5m&to=now&theme=${theme}&kiosk&var-process=${encodeURIComponent(process)}`,
        async (page) => {
          // All panels in one look: each look costs a busy browser much.
          const missing = () => page.evaluate(undrawn, panels.map(({ title, type }) => ({ title, type })));
          let failures;
          await until('every panel is drawn', async () => (failures = await missing()).length === 0, 240).catch(() => undefined);
          await shoot(page, `grafana-process-${theme}`);
          assert.deepEqual(failures, []);
        },
        { width: 1600, height: 3200 }
      );
    });
  }

  test('a cell of a heatmap leads to the timeline of its P in its minute', async () => {
    // A range that is over: a live panel closes what a click opened.
    const to = Date.now() - 20_000;
    const process = await observedProcess();
    await withPage(`/d/pscope-cpu?from=${to - 120_000}&to=${to}&kiosk&var-datasource=${uid}&var-process=${encodeURIComponent(process)}`, async (page) => {
      const panel = page.locator('section[data-testid="data-testid Panel header Waiting for a CPU, by P"]');
      const plot = panel.locator('.u-over');
      await plot.waitFor();
      const link = page.getByRole('link', { name: 'Timeline of this P in this minute' });
      await until('a click on a cell offers the link', async () => {
        const { width, height } = await plot.boundingBox();
        await plot.click({ position: { x: width / 2, y: height / 8 } });
        await link.waitFor({ timeout: 3000 });
        return true;
      }, 60);
      await link.click();
      await page.waitForURL((url) => url.pathname.startsWith('/d/pscope-process'));
      const landed = new URL(page.url()).searchParams;
      assert.equal(landed.get('viewPanel'), `panel-${panelId('pscope-process', 'P state timeline')}`);
      assert.match(landed.get('var-p'), /^\d+$/);
      assert.match(landed.get('var-pid'), /^\d+$/);
      await until('the range is that minute', () => {
        const { searchParams } = new URL(page.url());
        const [from, end] = ['from', 'to'].map((name) => new Date(Number(searchParams.get(name)) || searchParams.get(name)).getTime());
        return end - from === 60_000 && from >= to - 180_000 && end <= to + 60_000;
      }, 20);
    });
  });

  const stuckSkip = process.getuid?.() === 0 ? false : 'only root may mount the slow file that a thread waits for';

  test('an alert rule made by hand fires for each P that is stuck in D, and resolves', { skip: stuckSkip }, async () => {
    const name = `D share by hand ${Date.now()}`;
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pscope-e2e-'));
    const start = (...args) => new Program('demo', ['demo', '--once', '--gomaxprocs', '2', ...args], dir);
    let demo = start('--phases', 'd,idle', '--d-seconds', '75', '--phase-seconds', '60');
    const rule = async () => {
      const { body } = await api('GET', '/api/prometheus/grafana/api/v1/rules');
      return body.data.groups.flatMap((group) => group.rules).find((r) => r.name === name);
    };
    /** The states of the rule's alerts about the demo. */
    const states = async () => {
      const found = await rule();
      const alerts = found?.alerts ?? [];
      const labels = alerts.map((alert) => JSON.stringify(alert.labels));
      assert.equal(new Set(labels).size, labels.length, 'no two alerts have the same labels');
      assert.deepEqual(alerts.filter((alert) => /nodata|error/i.test(alert.state)), []);
      assert.notEqual(found?.health, 'error', found?.lastError);
      return alerts.filter((alert) => alert.labels.process_pid === String(demo.pid)).map((alert) => alert.state);
    };
    try {
      await withPage(
        '/alerting/new/alerting',
        async (page) => {
          await page.locator('input[name="name"]').fill(name);
          // The editor begins with what alerts are made of most: D share by P.
          await page.getByTestId(ids.queryEditor).waitFor();
          assert.match(await page.getByTestId(ids.sentence).innerText(), /D share of any process as series.*host, process, pid and P/);
          await page.locator('input[type="number"]').first().fill('0.95');
          await page.getByText('Select folder', { exact: true }).first().click();
          await page.getByText('P-Scope', { exact: true }).last().click();
          await page.getByRole('button', { name: 'New evaluation group' }).click();
          const dialog = page.getByRole('dialog');
          await dialog.locator('input').nth(0).fill(name);
          await dialog.locator('input').nth(1).fill('10s');
          await dialog.getByRole('button', { name: 'Create' }).click();
          await page.locator('#evaluateFor, input[name="evaluateFor"]').first().fill('30s');
          await page.getByTestId('contact-point-picker').or(page.getByPlaceholder(/contact point/i)).first().click();
          await page.keyboard.press('Enter');
          await page.getByRole('button', { name: 'Save', exact: true }).click();
          await page.waitForURL((url) => /\/alerting\/grafana\/[^/]+\/view/.test(url.pathname));
          // What the editor showed is what the rule asks for, though nobody changed it.
          const { body: stored } = await api('GET', '/api/v1/provisioning/alert-rules');
          const { model } = stored.find((r) => r.title === name).data[0];
          assert.deepEqual([model.kind, model.metric], ['series', 'd_share']);
          await until('one P of the demo fires', async () => (await states()).some((state) => /alerting|firing/i.test(state)), 75);
          await page.reload();
          await page.getByText('Firing', { exact: true }).first().waitFor();
          await shoot(page, 'grafana-alert-firing');
          await until('it is normal again', async () => (await states()).every((state) => /^normal/i.test(state)), 75);
          await page.reload();
          await page.getByText('Query and conditions').first().waitFor();
          await shoot(page, 'grafana-alert-normal');
          // A process that ends in D takes its alert with it, though the last value of the last ten minutes is D.
          await demo.stop();
          demo = start('--phases', 'd', '--d-seconds', '300');
          await until('one P of the second demo fires', async () => (await states()).some((state) => /alerting|firing/i.test(state)), 90);
          await demo.stop();
          await until('its alert has resolved', async () => (await states()).every((state) => /^normal/i.test(state)), 60);
        },
        { width: 1440, height: 1400 }
      );
    } finally {
      const made = await api('GET', '/api/v1/provisioning/alert-rules');
      const uids = made.body.filter((r) => r.title === name).map((r) => r.uid);
      await Promise.all(uids.map((ruleUid) => api('DELETE', `/api/v1/provisioning/alert-rules/${ruleUid}`)));
      await demo.stop();
      fs.rmSync(dir, { recursive: true });
    }
  });

  test('Explore: the editor renders and a live heatmap streams', async () => {
    const query = { refId: 'A', version: 1, kind: 'heatmap', live: true, datasource: { type: 'pscope-pscope-datasource', uid } };
    const panes = JSON.stringify({ one: { datasource: uid, queries: [query], range: { from: 'now-5m', to: 'now' } } });
    await withPage(`/explore?schemaVersion=1&panes=${encodeURIComponent(panes)}`, async (page) => {
      const frames = [];
      page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => frames.push(String(payload))));
      await page.reload({ waitUntil: 'domcontentloaded' });
      await page.getByTestId(ids.queryEditor).waitFor();
      const streamed = () => frames.filter((text) => text.includes(`ds/${uid}/`) && text.includes('"pub"')).length;
      await until('rows stream through Grafana Live', () => streamed() > 5, 60);
      const from = streamed();
      await page.waitForTimeout(5000);
      const perSecond = (streamed() - from) / 5;
      assert.ok(perSecond >= 2 && perSecond <= 7, `${perSecond} frames a second`);
      await shoot(page, 'grafana-explore');
    });
  });
});

// How much memory a live board takes over time: a state timeline over Grafana Live and a heatmap over gRPC-Web are left running in a real Grafana, and the
// page's heap is read after a collection. GRAFANA_URL names a Grafana that has the plugin, P-Scope's provisioning, and an admin whose password is "admin".
//
//   GRAFANA_URL=http://localhost:3000 node bench/browser/memory.mjs --minutes 30 --out bench/results/memory
import fs from 'node:fs';
import { parseArgs } from 'node:util';

import { launch, openPage } from '../../e2e/lib/browser.mjs';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '30' }, every: { type: 'string', default: '30' }, out: { type: 'string' }, picture: { type: 'string' } },
});
const base = process.env.GRAFANA_URL?.replace(/\/$/, '');
if (!base) {
  console.error('memory: GRAFANA_URL is not set; name a Grafana that has the plugin, for example http://localhost:3000');
  process.exit(1);
}
const headers = { Authorization: `Basic ${Buffer.from('admin:admin').toString('base64')}`, 'Content-Type': 'application/json' };
const datasource = { type: 'pscope-pscope-datasource', uid: 'pscope' };
const shared = { datasource, version: 1, target: { process: 'pscope-demo' }, live: true };
const board = {
  uid: 'pscope-memory',
  title: 'Live for long',
  time: { from: 'now-5m', to: 'now' },
  panels: [
    {
      id: 1,
      type: 'state-timeline',
      title: 'Grafana Live, 5 a second',
      datasource,
      gridPos: { x: 0, y: 0, w: 24, h: 10 },
      targets: [{ refId: 'A', ...shared, kind: 'timeline', metric: 'state' }],
    },
    {
      id: 2,
      type: 'heatmap',
      title: 'gRPC-Web, 10 a second',
      datasource,
      gridPos: { x: 0, y: 10, w: 24, h: 10 },
      // Without options Grafana takes the panel for one of its old kind and counts values into buckets.
      options: { calculate: false },
      targets: [{ refId: 'A', ...shared, kind: 'heatmap', metric: 'state', states: ['running', 'gc', 'syscall'], rateHz: 10 }],
    },
  ],
};

const saved = await fetch(`${base}/api/dashboards/db`, { method: 'POST', headers, body: JSON.stringify({ dashboard: board, overwrite: true }) });
if (!saved.ok) {
  console.error(`memory: Grafana did not take the board: ${saved.status} ${await saved.text()}`);
  process.exit(1);
}
const browser = await launch();
const rows = [];
try {
  const { page, complaints } = await openPage(browser, 'about:blank', { width: 1400, height: 800 });
  // Signed in with each request, so that no login page is in the way.
  await page.context().setExtraHTTPHeaders({ Authorization: headers.Authorization });
  await page.goto(`${base}/d/pscope-memory?kiosk`, { waitUntil: 'domcontentloaded' });
  await page.locator('canvas').nth(1).waitFor();
  const devtools = await page.context().newCDPSession(page);
  await devtools.send('Performance.enable');
  const began = Date.now();
  const end = began + Number(values.minutes) * 60_000;
  for (;;) {
    await devtools.send('HeapProfiler.collectGarbage');
    const { metrics } = await devtools.send('Performance.getMetrics');
    const of = (name) => metrics.find((m) => m.name === name)?.value ?? NaN;
    const row = {
      minute: Math.round((Date.now() - began) / 6000) / 10,
      heapMB: Math.round(of('JSHeapUsedSize') / 1e5) / 10,
      nodes: of('Nodes'),
      listeners: of('JSEventListeners'),
      cpuSeconds: Math.round(of('TaskDuration') * 10) / 10,
    };
    rows.push(row);
    console.log(JSON.stringify(row));
    if (Date.now() >= end) {
      break;
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(Number(values.every) * 1000, end - Date.now())));
  }
  if (values.picture) {
    await page.screenshot({ path: values.picture });
  }
  const ours = complaints.filter((text) => /pscope/i.test(text));
  if (ours.length) {
    console.log('the console complains:', ours.slice(0, 10));
  }
} finally {
  await browser.close();
}
if (values.out) {
  const late = rows.filter((r) => r.minute >= 5);
  const slope = (late.at(-1).heapMB - late[0].heapMB) / Math.max(1, late.at(-1).minute - late[0].minute);
  const curve = rows.filter((r, i) => i % 4 === 0 || i === rows.length - 1);
  fs.writeFileSync(`${values.out}.json`, JSON.stringify(rows, undefined, 1) + '\n');
  fs.writeFileSync(
    `${values.out}.md`,
    [
      '# Memory of a page that stays live',
      '',
      `A state timeline over Grafana Live (5 a second) and a heatmap over gRPC-Web (10 a second) side by side, the last 5 minutes of the demo, for ${values.minutes} minutes.`,
      'Heap after a forced collection. Made by `node bench/browser/memory.mjs`.',
      '',
      `After the fifth minute: ${Math.min(...late.map((r) => r.heapMB))} to ${Math.max(...late.map((r) => r.heapMB))} MB, ${slope.toFixed(2)} MB a minute.`,
      '',
      '| minute | heap, MB | DOM nodes | listeners | CPU of the page so far, s |',
      '| --: | --: | --: | --: | --: |',
      ...curve.map((r) => `| ${r.minute} | ${r.heapMB} | ${r.nodes} | ${r.listeners} | ${r.cpuSeconds} |`),
      '',
    ].join('\n')
  );
}

import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import test from 'node:test';

import { compareVersions, modulesAreCurrent } from './prepare.mjs';
import { freePort, Service } from './services.mjs';
import { run } from './shell.mjs';
import { contentHash } from './stamp.mjs';
import { command, readGoTest, readJest, readTap, skipSummary, skipped } from './steps.mjs';

/** Whether a process runs; one that has ended and that nobody has asked after yet does not. */
function runs(pid) {
  try {
    return !/^State:\s+[ZX]/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

function tempDir(t) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pscope-test-'));
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

test('go test events are counted, with subtests, and failures carry their output', () => {
  const lines = [
    { Action: 'run', Package: 'a', Test: 'TestX' },
    { Action: 'output', Package: 'a', Test: 'TestX/sub', Output: 'x_test.go:1: wrong\n' },
    { Action: 'fail', Package: 'a', Test: 'TestX/sub' },
    { Action: 'fail', Package: 'a', Test: 'TestX' },
    { Action: 'fail', Package: 'a' },
    { Action: 'pass', Package: 'b', Test: 'TestY' },
    { Action: 'skip', Package: 'b', Test: 'TestZ' },
    { Action: 'pass', Package: 'b' },
  ].map((e) => JSON.stringify(e));
  const r = readGoTest(['go: downloading something', ...lines]);
  assert.deepEqual([r.passed, r.failed, r.skipped], [1, 2, 1]);
  assert.match(r.failures[0].detail, /wrong/);
});

test('a package that does not build is one failure with the compiler output', () => {
  const r = readGoTest([
    '{"ImportPath":"a [a.test]","Action":"build-output","Output":"a.go:1: undefined: x\\n"}',
    '{"ImportPath":"a [a.test]","Action":"build-fail"}',
    '{"Action":"fail","Package":"a","FailedBuild":"a [a.test]"}',
  ]);
  assert.equal(r.failed, 1);
  assert.match(r.failures[0].detail, /undefined: x/);
});

test('a jest file that can not be run is a failure', () => {
  const r = readJest({
    numPassedTests: 2,
    numFailedTests: 0,
    numPendingTests: 1,
    numTodoTests: 0,
    testResults: [{ name: '/x/a.test.ts', status: 'failed', message: 'no such module', assertionResults: [] }],
  });
  assert.deepEqual([r.passed, r.failed, r.skipped], [2, 1, 1]);
});

test('of TAP only leaves count', () => {
  const r = readTap([
    'TAP version 13',
    '# Subtest: suite',
    '    # Subtest: inner',
    '    ok 1 - inner',
    '      ---',
    "      type: 'test'",
    '      ...',
    '    not ok 2 - broken',
    '      ---',
    "      error: 'expected 1'",
    '      ...',
    '    1..2',
    'not ok 1 - suite',
    '  ---',
    "  type: 'suite'",
    '  ...',
    'ok 2 - later # SKIP no root',
    '1..2',
  ]);
  assert.deepEqual([r.passed, r.failed, r.skipped], [1, 1, 1]);
  assert.match(r.failures[0].detail, /expected 1/);
});

test('a runner that dies without a failed test does not pass', async () => {
  const r = await command('dies', 'sh', ['-c', 'exit 3'], {
    read: () => ({ passed: 5, failed: 0, skipped: 0, failures: [] }),
  });
  assert.equal(r.failed, 1);
});

test('a runner that runs nothing does not pass', async () => {
  const r = await command('nothing', 'true', [], { read: () => ({ passed: 0, failed: 0, skipped: 0, failures: [] }) });
  assert.equal(r.failed, 1);
});

test('a step that hangs is ended with all it started', async () => {
  const pids = [];
  const r = await run('sh', ['-c', 'sleep 60 & echo $!; wait'], {
    timeout: 300,
    onLine: (line) => pids.push(Number(line)),
  });
  assert.equal(r.timedOut, true);
  // The kernel may take a moment to end what has been killed.
  for (let i = 0; i < 100 && runs(pids[0]); i++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal(runs(pids[0]), false, 'the child of the step still runs');
});

test('versions compare by number', () => {
  assert.ok(compareVersions('1.9', '1.10') < 0);
  assert.ok(compareVersions('1.26.8', '1.26.7') > 0);
  assert.equal(compareVersions('1.26', '1.26.0'), 0);
});

test('a changed, added or removed file changes the hash, a touched one does not', (t) => {
  const dir = tempDir(t);
  fs.mkdirSync(path.join(dir, 'src'));
  fs.writeFileSync(path.join(dir, 'src', 'a'), '1');
  const first = contentHash(['src', 'absent'], dir);
  fs.utimesSync(path.join(dir, 'src', 'a'), 1, 1);
  assert.equal(contentHash(['src', 'absent'], dir), first);
  fs.writeFileSync(path.join(dir, 'src', 'b'), '');
  const second = contentHash(['src', 'absent'], dir);
  assert.notEqual(second, first);
  fs.writeFileSync(path.join(dir, 'src', 'a'), '2');
  assert.notEqual(contentHash(['src', 'absent'], dir), second);
});

test('node_modules of another lock are not current', (t) => {
  const dir = tempDir(t);
  const write = (file, packages) => {
    fs.mkdirSync(path.dirname(path.join(dir, file)), { recursive: true });
    fs.writeFileSync(path.join(dir, file), JSON.stringify({ packages }));
  };
  write('package-lock.json', {
    '': {},
    'node_modules/a': { version: '2.0.0' },
    'node_modules/b': { version: '1.0.0', optional: true },
  });
  assert.equal(modulesAreCurrent(dir), false, 'nothing is installed');
  write('node_modules/.package-lock.json', { 'node_modules/a': { version: '1.0.0' } });
  assert.equal(modulesAreCurrent(dir), false, 'an older one is installed');
  write('node_modules/.package-lock.json', { 'node_modules/a': { version: '2.0.0' } });
  assert.equal(modulesAreCurrent(dir), true);
});

test('a port in use is passed over', async (t) => {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const { port } = server.address();
  assert.notEqual(await freePort(port), port);
});

test('a service that ends too early says so with its log', async (t) => {
  const s = new Service('early', 'sh', ['-c', 'echo the reason; exit 4'], { logDir: tempDir(t) });
  await assert.rejects(
    s.until(() => false, 5),
    /early ended with code 4:[^]*the reason/
  );
});

test('a service that ignores SIGTERM is ended by force, with its children', async (t) => {
  const dir = tempDir(t);
  const s = new Service('stubborn', 'sh', ['-c', 'trap "" TERM; sleep 60 & echo $!; while :; do sleep 1; done'], {
    logDir: dir,
    grace: 200,
  });
  await s.until(() => /\d/.test(fs.readFileSync(s.log, 'utf8')), 5);
  const pid = Number(fs.readFileSync(s.log, 'utf8'));
  await s.stop();
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(runs(pid), false, 'the child still runs');
});

test('why Go tests are skipped is what they said last', () => {
  const events = (name, ...printed) => [
    ...printed.map((Output) => ({ Action: 'output', Package: 'a', Test: name, Output })),
    { Action: 'skip', Package: 'a', Test: name },
  ];
  const lines = [
    ...events(
      'TestA',
      '=== RUN   TestA\n',
      '    a_test.go:3: first\n',
      '    a_linux_test.go:12: no root\n',
      '--- SKIP: TestA (0.00s)\n'
    ),
    ...events(
      'TestA/sub',
      '=== RUN   TestA/sub\n',
      '        a_test.go:9: two\n',
      '            lines\n',
      '    --- SKIP: TestA/sub (0.00s)\n'
    ),
    ...events('TestB', '=== RUN   TestB\n', '--- SKIP: TestB (0.00s)\n'),
  ].map((e) => JSON.stringify(e));
  assert.deepEqual(readGoTest(lines).skips, [
    { name: 'TestA', reason: 'no root' },
    { name: 'TestA/sub', reason: 'two lines' },
    { name: 'TestB', reason: 'no reason is given' },
  ]);
});

test('why Node tests are skipped, and suites as a whole', async (t) => {
  const file = path.join(tempDir(t), 'x.test.mjs');
  fs.writeFileSync(
    file,
    `import test, { describe } from 'node:test';
     describe('suite', { skip: 'no Grafana' }, () => { test('a', () => {}); test('b', () => {}); });
     test('one', { skip: 'no browser' }, () => {});
     test('two', { skip: true }, () => {});
     test('three', (t) => t.skip('late'));
     describe('other', () => { test('in', { skip: 'inner' }, () => {}); test('runs', () => {}); });`
  );
  const lines = [];
  // The runner would not run another one inside of its tests.
  const env = { ...process.env, NODE_TEST_CONTEXT: undefined };
  await run(process.execPath, ['--test', '--test-reporter=tap', file], { env, onLine: (line) => lines.push(line) });
  const r = readTap(lines);
  assert.deepEqual([r.passed, r.failed, r.skipped], [1, 0, 5]);
  assert.deepEqual(
    r.skips.map((s) => [s.name, s.reason]),
    [
      ['suite', 'no Grafana'],
      ['one', 'no browser'],
      ['two', 'no reason is given'],
      ['three', 'late'],
      ['in', 'inner'],
    ]
  );
});

test('which Jest tests are skipped', () => {
  const assertion = (status, fullName) => ({ status, fullName, failureMessages: [] });
  const r = readJest({
    numPassedTests: 1,
    numFailedTests: 0,
    numPendingTests: 1,
    numTodoTests: 1,
    testResults: [
      {
        name: '/x/a.test.ts',
        status: 'passed',
        assertionResults: [assertion('passed', 'p'), assertion('pending', 's'), assertion('todo', 't')],
      },
    ],
  });
  assert.equal(r.skips.length, r.skipped);
  assert.match(r.skips[0].reason, /a\.test\.ts/);
  assert.match(r.skips[1].reason, /it\.todo/);
});

test('skips are summed up by reason, the most frequent first, and none is left out', () => {
  const result = (skips, more = 0) => ({ ...skipped(''), skipped: skips.length + more, skips });
  const lines = skipSummary([
    {
      group: 'go',
      name: 'test',
      result: result(['A', 'B', 'C', 'D', 'E'].map((name) => ({ name, reason: 'no root' }))),
    },
    { group: 'gen', name: 'BPF', result: skipped('no clang') },
    { group: 'ts', name: 'jest', result: result([], 2) },
    { group: 'go', name: 'vet', result: { passed: 1, failed: 0, skipped: 0, failures: [] } },
  ]);
  assert.deepEqual(lines, [
    '',
    '8 skipped, by reason:',
    '    5  no root',
    '       go: A, go: B, go: C and 2 more',
    '    2  no reason is given',
    '       ts: jest, ts: jest',
    '    1  no clang',
    '       gen: BPF',
  ]);
  assert.deepEqual(
    skipSummary([{ group: 'go', name: 'vet', result: { passed: 1, failed: 0, skipped: 0, failures: [] } }]),
    []
  );
});

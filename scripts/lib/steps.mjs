// Test steps: run one after another, counted by what each runner itself reports.
import fs from 'node:fs';
import path from 'node:path';

import { cacheDir, run, say } from './shell.mjs';

/**
 * What became of a step. Failures are named with what is needed to understand them.
 *
 * @typedef {{passed: number, failed: number, skipped: number, failures: {name: string, detail: string}[], note?: string}} Result
 */

export const passed = () => ({ passed: 1, failed: 0, skipped: 0, failures: [] });
export const failed = (name, detail) => ({ passed: 0, failed: 1, skipped: 0, failures: [{ name, detail }] });
export const skipped = (note) => ({ passed: 0, failed: 0, skipped: 1, failures: [], note });

const last = (lines, n = 60) => lines.slice(-n).join('\n');

/** Runs a command as a step; `read` turns its output into a Result. Without it the exit code decides and counts as one. */
export async function command(name, cmd, args, { env, cwd, timeout = 15 * 60_000, read } = {}) {
  const log = path.join(cacheDir, 'logs', 'test', `${name.replaceAll(/[^a-z0-9]+/gi, '-')}.log`);
  fs.mkdirSync(path.dirname(log), { recursive: true });
  fs.rmSync(log, { force: true });
  const lines = [];
  const r = await run(cmd, args, { env, cwd, timeout, log, onLine: (line, stream) => lines.push({ line, stream }) });
  const text = lines.map((l) => l.line);
  const late = r.timedOut ? `ended by force after ${timeout / 60_000} minutes\n` : '';
  if (!read) {
    return r.code === 0 ? passed() : failed(name, late + last(text));
  }
  const result = read(lines.filter((l) => l.stream === 'stdout').map((l) => l.line));
  // A runner that fails without a failed test (it crashed, or ran nothing) must not pass.
  if (r.code !== 0 && result.failed === 0) {
    return { ...result, failed: 1, failures: [{ name, detail: `${late}ended with code ${r.code}\n${last(text)}` }] };
  }
  if (r.code === 0 && result.passed + result.failed + result.skipped === 0) {
    return failed(name, 'no test was run');
  }
  return result;
}

/** Reads the event stream of `go test -json`. Tests and subtests count one each; a package that does not build or dies counts one. */
export function readGoTest(lines) {
  const result = { passed: 0, failed: 0, skipped: 0, failures: [] };
  const printed = new Map(); // by package and test
  const failedIn = new Set(); // packages with a failed test
  const key = (e) => `${e.Package}\0${e.Test ?? ''}`;
  const building = new Map(); // compiler output by import path
  for (const line of lines) {
    let e;
    try {
      e = JSON.parse(line);
    } catch {
      continue; // not an event: the go command itself
    }
    switch (e.Action) {
      case 'output':
        printed.set(key(e), (printed.get(key(e)) ?? '') + e.Output);
        break;
      case 'build-output':
        building.set(e.ImportPath, (building.get(e.ImportPath) ?? '') + e.Output);
        break;
      case 'pass':
      case 'skip':
        if (e.Test) {
          result[e.Action === 'pass' ? 'passed' : 'skipped']++;
          printed.delete(key(e));
        }
        break;
      case 'fail':
        if (e.Test) {
          failedIn.add(e.Package);
          result.failed++;
          result.failures.push({ name: `${e.Package} ${e.Test}`, detail: printed.get(key(e)) ?? '' });
        } else if (!failedIn.has(e.Package)) {
          result.failed++;
          result.failures.push({
            name: e.Package,
            detail: (building.get(e.FailedBuild) ?? '') + (printed.get(key(e)) ?? ''),
          });
        }
        break;
    }
  }
  return result;
}

/** Reads the report `jest --json` writes. */
export function readJest(report) {
  const result = {
    passed: report.numPassedTests,
    failed: report.numFailedTests,
    skipped: report.numPendingTests + report.numTodoTests,
    failures: [],
  };
  for (const file of report.testResults) {
    const bad = file.assertionResults.filter((a) => a.status === 'failed');
    for (const a of bad) {
      result.failures.push({ name: `${path.basename(file.name)} ${a.fullName}`, detail: a.failureMessages.join('\n') });
    }
    if (file.status === 'failed' && bad.length === 0) {
      // The file itself could not be run.
      result.failed++;
      result.failures.push({ name: path.basename(file.name), detail: file.message });
    }
  }
  return result;
}

/** Reads TAP as `node --test` writes it: leaves count, suites do not. */
export function readTap(lines) {
  const result = { passed: 0, failed: 0, skipped: 0, failures: [] };
  // The outcome line of a test comes before its details; whether it is a suite is said in those.
  let open;
  const close = () => {
    if (!open || open.suite) {
      open = undefined;
      return;
    }
    result[open.outcome]++;
    if (open.outcome === 'failed') {
      result.failures.push({ name: open.name, detail: open.detail.join('\n') });
    }
    open = undefined;
  };
  for (const line of lines) {
    const m = line.match(/^\s*(not )?ok \d+ - (.*)$/);
    if (m) {
      close();
      const name = m[2].replace(/ # (SKIP|TODO).*$/, '');
      open = { name, outcome: name !== m[2] ? 'skipped' : m[1] ? 'failed' : 'passed', suite: false, detail: [] };
    } else if (open) {
      open.suite ||= /^\s*type: 'suite'/.test(line);
      open.detail.push(line.trim());
      if (/^\s*\.\.\.$/.test(line)) {
        close();
      }
    }
  }
  close();
  return result;
}

/** Runs steps in order, prints the table, the failures and the last line. Gives the exit code. */
export async function runSteps(steps) {
  const rows = [];
  for (const step of steps) {
    process.stdout.write(`${`${step.group}: ${step.name}`.padEnd(46)} `);
    const began = Date.now();
    let result;
    try {
      result = await step.run();
    } catch (error) {
      result = failed(step.name, error.message);
    }
    const seconds = (Date.now() - began) / 1000;
    rows.push({ ...step, result, seconds });
    say(row(result, seconds));
  }
  const sum = (what) => rows.reduce((n, r) => n + r.result[what], 0);
  for (const r of rows) {
    for (const f of r.result.failures) {
      say(`\n--- FAILED ${r.group}: ${f.name}\n${f.detail.trimEnd()}`);
    }
  }
  say(
    `\n${'group: step'.padEnd(46)} ${'passed'.padStart(7)} ${'failed'.padStart(7)} ${'skipped'.padStart(8)} ${'seconds'.padStart(8)}`
  );
  for (const r of rows) {
    const n = (what, width) => String(r.result[what]).padStart(width);
    say(
      `${`${r.group}: ${r.name}`.padEnd(46)} ${n('passed', 7)} ${n('failed', 7)} ${n('skipped', 8)} ${r.seconds.toFixed(1).padStart(8)}`
    );
  }
  const total = rows.reduce((n, r) => n + r.seconds, 0);
  say(
    `${'all'.padEnd(46)} ${String(sum('passed')).padStart(7)} ${String(sum('failed')).padStart(7)} ${String(sum('skipped')).padStart(8)} ${total.toFixed(1).padStart(8)}`
  );
  say(`\n${sum('passed')} passed, ${sum('failed')} failed`);
  return sum('failed') === 0 && sum('passed') > 0 ? 0 : 1;
}

function row(result, seconds) {
  const words = [];
  if (result.failed) {
    words.push(`FAILED ${result.failed}`);
  }
  if (result.passed) {
    words.push(result.passed === 1 ? 'ok' : `${result.passed} ok`);
  }
  if (result.skipped) {
    words.push(result.passed || result.failed ? `${result.skipped} skipped` : 'skipped');
  }
  return `${words.join(', ')} (${seconds.toFixed(1)} s)${result.note ? ` ${result.note}` : ''}`;
}

// Test steps: run one after another, counted by what each runner itself reports.
import fs from 'node:fs';
import path from 'node:path';

import { cacheDir, run, say } from './shell.mjs';

/**
 * What became of a step. Failures are named with what is needed to understand them.
 *
 * @typedef {{passed: number, failed: number, skipped: number, failures: {name: string, detail: string}[],
 *   skips: {name: string, reason: string}[], note?: string}} Result
 */

export const passed = () => ({ passed: 1, failed: 0, skipped: 0, failures: [], skips: [] });
export const failed = (name, detail) => ({ passed: 0, failed: 1, skipped: 0, failures: [{ name, detail }], skips: [] });
/** A whole step that is left out. */
export const skipped = (note) => ({
  passed: 0,
  failed: 0,
  skipped: 1,
  failures: [],
  skips: [{ name: 'the whole step', reason: note }],
  note,
});

/** What stands where a runner gives no reason. */
const noReason = 'no reason is given';

const last = (lines, n = 60) => lines.slice(-n).join('\n');

/**
 * Runs a command as a step; `read` turns its output into a Result. Without it the exit code decides and counts as one.
 */
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

/**
 * Reads the event stream of `go test -json`. Tests and subtests count one each; a package that does not build or dies
 * counts one.
 */
export function readGoTest(lines) {
  const result = { passed: 0, failed: 0, skipped: 0, failures: [], skips: [] };
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
          if (e.Action === 'skip') {
            result.skips.push({ name: e.Test, reason: goReason(printed.get(key(e)) ?? '') });
          }
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

/** Why a Go test was skipped: what it logged last, which t.Skip does before it ends the test. */
function goReason(printed) {
  const logged = printed.split(/^ {4,}[\w.-]+\.go:\d+: /m).slice(1);
  const last = logged.at(-1)?.split(/^\s*--- /m)[0];
  return last?.trim().replaceAll(/\s+/g, ' ') || noReason;
}

/** Reads the report `jest --json` writes. */
export function readJest(report) {
  const result = {
    passed: report.numPassedTests,
    failed: report.numFailedTests,
    skipped: report.numPendingTests + report.numTodoTests,
    failures: [],
    skips: [],
  };
  for (const file of report.testResults) {
    for (const a of file.assertionResults.filter((a) =>
      ['pending', 'todo', 'skipped', 'disabled'].includes(a.status)
    )) {
      // Jest knows none: what its name says is all there is.
      const reason =
        a.status === 'todo'
          ? 'it is still to be written (it.todo)'
          : `it is skipped in ${path.basename(file.name)}, ${noReason}`;
      result.skips.push({ name: a.fullName, reason });
    }
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
  const result = { passed: 0, failed: 0, skipped: 0, failures: [], skips: [] };
  // The outcome line of a test comes before its details; whether it is a suite is said in those.
  let open;
  const close = () => {
    // Of a suite that is left out as a whole nothing more is said: it counts as one.
    if (!open || (open.suite && open.outcome !== 'skipped')) {
      open = undefined;
      return;
    }
    result[open.outcome]++;
    if (open.outcome === 'failed') {
      result.failures.push({ name: open.name, detail: open.detail.join('\n') });
    }
    if (open.outcome === 'skipped') {
      result.skips.push({ name: open.name, reason: open.reason || noReason });
    }
    open = undefined;
  };
  for (const line of lines) {
    const m = line.match(/^\s*(not )?ok \d+ - (.*)$/);
    if (m) {
      close();
      const name = m[2].replace(/ # (SKIP|TODO).*$/, '');
      const reason = m[2].match(/ # (?:SKIP|TODO) ?(.*)$/)?.[1].trim();
      open = {
        name,
        reason,
        outcome: name !== m[2] ? 'skipped' : m[1] ? 'failed' : 'passed',
        suite: false,
        detail: [],
      };
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
  skipSummary(rows).forEach((line) => say(line));
  say(`\n${sum('passed')} passed, ${sum('failed')} failed`);
  return sum('failed') === 0 && sum('passed') > 0 ? 0 : 1;
}

/** How many names stand beside a reason. */
const namesShown = 3;

/**
 * Why tests were skipped: each reason once, with how many it kept from running and which, the most frequent first.
 *
 * @param {{group: string, name: string, result: Result}[]} rows
 * @returns {string[]}
 */
export function skipSummary(rows) {
  const by = new Map();
  let all = 0;
  for (const r of rows) {
    for (const s of r.result.skips ?? []) {
      all++;
      by.set(s.reason, [...(by.get(s.reason) ?? []), `${r.group}: ${s.name === 'the whole step' ? r.name : s.name}`]);
    }
    // A runner that counts more than it names.
    const unnamed = r.result.skipped - (r.result.skips?.length ?? 0);
    for (let i = 0; i < unnamed; i++) {
      all++;
      by.set(noReason, [...(by.get(noReason) ?? []), `${r.group}: ${r.name}`]);
    }
  }
  if (!all) {
    return [];
  }
  const lines = ['', `${all} skipped, by reason:`];
  for (const [reason, names] of [...by].sort((a, b) => b[1].length - a[1].length || a[0].localeCompare(b[0]))) {
    const shown = names.slice(0, namesShown).join(', ');
    const rest = names.length > namesShown ? ` and ${names.length - namesShown} more` : '';
    lines.push(`${String(names.length).padStart(5)}  ${reason}`, `       ${shown}${rest}`);
  }
  return lines;
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

// Running programs: with their output in a log, and ended together with this script.
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The top of the repository. */
export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Scratch space that survives between runs: logs, stamps, history of the agent. Ignored by git. */
export const cacheDir = path.join(root, '.cache');

export const isRoot = process.getuid?.() === 0;

/** An error whose message tells the user what to do; it is printed without a stack. */
export class Advice extends Error {}

export function say(line = '') {
  process.stdout.write(`${line}\n`);
}

/** The full path of a program, or undefined. */
export function which(name, env = process.env) {
  for (const dir of (env.PATH ?? '').split(path.delimiter)) {
    const file = path.join(dir, name);
    try {
      fs.accessSync(file, fs.constants.X_OK);
      if (fs.statSync(file).isFile()) {
        return file;
      }
    } catch {
      // not here
    }
  }
  return undefined;
}

/** What a short command prints, without blanks around it; undefined when it fails. */
export function output(cmd, args, options = {}) {
  const r = spawnSync(cmd, args, { cwd: root, encoding: 'utf8', timeout: 60_000, ...options });
  return r.status === 0 ? r.stdout.trim() : undefined;
}

const running = new Set();

/** Ends every program that run() has started and that still runs, with all its children. */
export function endAll(signal = 'SIGTERM') {
  for (const child of running) {
    try {
      process.kill(-child.pid, signal);
    } catch {
      // gone already
    }
  }
}

/**
 * Runs a program to its end. Its output goes to `log` (a file, appended to) and, line by line, to `onLine`.
 *
 * @returns {Promise<{code: number, seconds: number, timedOut: boolean}>} code is 128 + n after signal n, 127 when it can't be started
 */
export function run(cmd, args, { cwd = root, env = process.env, log, onLine, timeout = 0 } = {}) {
  return new Promise((resolve) => {
    const began = Date.now();
    const out = log ? fs.openSync(log, 'a') : undefined;
    if (out !== undefined) {
      fs.writeSync(out, `$ ${[cmd, ...args].join(' ')}\n`);
    }
    // A process group of its own, so that a step can be ended with everything it started.
    const child = spawn(cmd, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    running.add(child);
    let timedOut = false;
    const timer = timeout
      ? setTimeout(() => {
          timedOut = true;
          try {
            process.kill(-child.pid, 'SIGKILL');
          } catch {
            // gone already
          }
        }, timeout)
      : undefined;
    for (const [stream, name] of [
      [child.stdout, 'stdout'],
      [child.stderr, 'stderr'],
    ]) {
      let rest = '';
      stream.setEncoding('utf8');
      stream.on('data', (chunk) => {
        if (out !== undefined) {
          fs.writeSync(out, chunk);
        }
        if (onLine) {
          const lines = (rest + chunk).split('\n');
          rest = lines.pop();
          lines.forEach((line) => onLine(line, name));
        }
      });
      stream.on('end', () => rest && onLine?.(rest, name));
    }
    let failure;
    child.on('error', (error) => {
      failure = error;
      if (out !== undefined) {
        fs.writeSync(out, `${error.message}\n`);
      }
      onLine?.(error.message, 'stderr');
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      running.delete(child);
      if (out !== undefined) {
        fs.closeSync(out);
      }
      resolve({
        code: failure ? 127 : (code ?? 128 + (os.constants.signals[signal] ?? 0)),
        seconds: (Date.now() - began) / 1000,
        timedOut,
      });
    });
  });
}

/** The last lines of a text file. */
export function tail(file, lines = 30) {
  try {
    return fs.readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '';
  }
}

/** Runs a step of the preparation and throws Advice when it fails. */
export async function must(what, cmd, args, { advice = '', onLine, ...options } = {}) {
  const log = options.log ?? path.join(cacheDir, 'logs', 'prepare.log');
  fs.mkdirSync(path.dirname(log), { recursive: true });
  const lines = [];
  const r = await run(cmd, args, {
    ...options,
    log,
    onLine: (line, stream) => (lines.push(line), onLine?.(line, stream)),
  });
  if (r.code !== 0) {
    // npm says what is wrong first and explains itself at length afterwards; compilers the other way round.
    const shown = lines.length > 40 ? [...lines.slice(0, 20), '…', ...lines.slice(-20)] : lines;
    throw new Advice(
      `${what} failed (${[cmd, ...args].join(' ')}):\n${shown.join('\n')}\n${advice || `The whole output is in ${log}.`}`
    );
  }
  return r;
}

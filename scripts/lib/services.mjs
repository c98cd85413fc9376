// Long-running programs: started in their own sessions, ended in order, and never left behind.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';

import { Advice, output, root, tail, which } from './shell.mjs';

/** The first port from `first` on that nobody listens on. */
export async function freePort(first, taken = new Set()) {
  for (let port = first; port < first + 200; port++) {
    if (!taken.has(port) && (await canListen(port))) {
      taken.add(port);
      return port;
    }
  }
  throw new Advice(`No free port from ${first} to ${first + 199}; stop what listens there.`);
}

function canListen(port) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/**
 * `setpriv` ends the program with this script, even when the script is killed. Without it only a clean end ends both.
 */
const withParent = (() => {
  const setpriv = which('setpriv');
  return setpriv && output(setpriv, ['--help'])?.includes('--pdeathsig') ? [setpriv, '--pdeathsig', 'TERM', '--'] : [];
})();

/** One long-running program with its log. */
export class Service {
  constructor(name, cmd, args, { logDir, env = process.env, grace = 10_000 }) {
    Object.assign(this, { name, grace });
    fs.mkdirSync(logDir, { recursive: true });
    this.log = path.join(logDir, `${name}.log`);
    const out = fs.openSync(this.log, 'w');
    const [program, ...rest] = [...withParent, cmd, ...args];
    this.child = spawn(program, rest, { cwd: root, env, stdio: ['ignore', out, out], detached: true });
    fs.closeSync(out);
    this.ended = new Promise((resolve) => {
      this.child.once('error', (error) => resolve(`can't be started: ${error.message}`));
      this.child.once('exit', (code, signal) => resolve(signal ? `ended by ${signal}` : `ended with code ${code}`));
    });
    void this.ended.then((how) => (this.how = how));
  }

  /** Asks the program to end, with force when it takes longer than its grace; resolves when it is gone. */
  async stop() {
    if (this.how === undefined) {
      this.signal('SIGTERM');
      const timer = setTimeout(() => this.signal('SIGKILL'), this.grace);
      await this.ended;
      clearTimeout(timer);
    }
    // What it may have started and left.
    this.signal('SIGKILL');
  }

  signal(signal) {
    if (!this.child.pid) {
      return;
    }
    try {
      process.kill(signal === 'SIGKILL' ? -this.child.pid : this.child.pid, signal);
    } catch {
      // gone already
    }
  }

  /** Waits until ready() is true; Advice with the end of the log when the program ends first or takes too long. */
  async until(ready, seconds) {
    const deadline = Date.now() + seconds * 1000;
    while (!(await ready())) {
      if (this.how !== undefined) {
        throw new Advice(`${this.name} ${this.how}:\n${tail(this.log, 15)}\nThe whole log is ${this.log}.`);
      }
      if (Date.now() > deadline) {
        throw new Advice(
          `${this.name} is not ready after ${seconds} s:\n${tail(this.log, 15)}\nThe whole log is ${this.log}.`
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** Whether a GET is answered with 200. */
export async function answers(url) {
  try {
    const r = await fetch(url, { signal: AbortSignal.timeout(2000) });
    await r.arrayBuffer();
    return r.ok;
  } catch {
    return false;
  }
}

// The real programs of one test: demo, agent, and the preview with the real plugin and bundle; none is left behind.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
const arch = { x64: 'amd64', arm64: 'arm64' }[process.arch];

/** What the tests run; made by `npm test`, or by the builds named here. Another folder of programs: PSCOPE_E2E_BIN. */
const bin = process.env.PSCOPE_E2E_BIN ?? path.join(root, 'bin');
const programs = {
  agent: [path.join(bin, 'pscope'), 'go build -o bin/pscope ./pkg/cmd/pscope'],
  demo: [path.join(bin, 'pscope-demo'), 'ln bin/pscope bin/pscope-demo'],
  preview: [path.join(bin, 'pscope-preview'), 'go build -o bin/pscope-preview ./e2e/preview/server'],
  plugin: [process.env.PSCOPE_E2E_PLUGIN ?? path.join(root, 'dist', `gpx_pscope_linux_${arch}`), `go build -o dist/gpx_pscope_linux_${arch} ./pkg`],
  bundle: [path.join(root, 'dist', 'module.js'), 'npm run build'],
  page: [path.join(root, 'e2e', 'preview', 'page', 'dist', 'main.js'), 'npm run build:preview'],
};

/** Resolves once `check` returns something truthy; fails with `what` after `seconds`. */
export async function until(what, check, seconds = 30) {
  const deadline = Date.now() + seconds * 1000;
  let last;
  for (;;) {
    try {
      const value = await check();
      if (value) {
        return value;
      }
      last = value;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) {
      throw new Error(`${what}: not within ${seconds} s${last === undefined ? '' : ` (last: ${last instanceof Error ? last.message : JSON.stringify(last)})`}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** A loopback port that is free at this moment. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject);
    server.listen({ port: 0, host: '127.0.0.1' }, () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** One program with its output; `lines` are those of its standard output. */
export class Program {
  constructor(name, args, logDir) {
    this.name = name;
    this.lines = [];
    this.log = path.join(logDir, `${name}.log`);
    const log = fs.openSync(this.log, 'a');
    this.child = spawn(programs[name][0], args, { cwd: root, stdio: ['ignore', 'pipe', log] });
    fs.closeSync(log);
    let rest = '';
    this.child.stdout.on('data', (chunk) => {
      const parts = (rest + chunk).split('\n');
      rest = parts.pop();
      this.lines.push(...parts);
    });
    this.ended = new Promise((resolve) => {
      this.child.once('error', resolve);
      this.child.once('exit', resolve);
    });
  }

  get pid() {
    return this.child.pid;
  }

  alive() {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Ends the program and waits for its end; after ten seconds with force. */
  async stop(signal = 'SIGTERM') {
    if (!this.alive()) {
      return;
    }
    this.child.kill(signal);
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 10_000);
    await this.ended;
    clearTimeout(timer);
  }
}

/** Starts demo, agent and preview, and waits until the data source is healthy. */
export async function startStack({ demoArgs = ['--phases', 'busy,syscall,gc,queue,idle', '--phase-seconds', '3'] } = {}) {
  for (const [file, build] of Object.values(programs)) {
    if (!fs.existsSync(file)) {
      throw new Error(`${path.relative(root, file)} is missing: run \`npm test\`, or build it with \`${build}\``);
    }
  }
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pscope-e2e-'));
  const socket = path.join(dir, 'pscope.sock');
  const agentPort = await freePort();
  const running = [];
  const launch = (name, args) => {
    const program = new Program(name, args, dir);
    running.push(program);
    return program;
  };

  const stack = {
    socket,
    agentUrl: `http://127.0.0.1:${agentPort}`,
    startAgent() {
      stack.agent = launch('agent', ['agent', '--socket', socket, '--listen', `127.0.0.1:${agentPort}`, '--data-dir', path.join(dir, 'data')]);
      return until('the agent is ready', () => status(`${stack.agentUrl}/-/ready`).then((code) => code === 200));
    },
    startDemo: (args) => launch('demo', args),
    /** How a program's log ends, for messages. */
    logs: () => running.map(({ name, log }) => `--- ${name}\n${fs.readFileSync(log, 'utf8').slice(-2000)}`).join('\n'),
    async stop() {
      for (const program of running.reverse()) {
        await program.stop();
      }
      fs.rmSync(dir, { recursive: true, force: true });
    },
  };
  try {
    stack.demo = launch('demo', demoArgs);
    await stack.startAgent();
    stack.preview = launch('preview', ['--port', '0', '--agent-socket', socket, '--plugin', programs.plugin[0]]);
    const line = await until('the preview says its address', () => stack.preview.lines.find((l) => l.startsWith('preview: ')));
    stack.url = line.slice('preview: '.length).replace(/\/$/, '');
    await until('the data source is healthy', () => status(`${stack.url}/api/datasources/uid/pscope/health`).then((code) => code === 200 || code));
    await until('the agent observes the demo', async () => {
      const targets = await json(`${stack.url}/api/datasources/uid/pscope/resources/targets`);
      return targets.some((t) => t.pid === stack.demo.pid);
    });
  } catch (error) {
    const logs = stack.logs();
    await stack.stop();
    throw new Error(`${error.message}\n${logs}`);
  }
  return stack;
}

export function status(url) {
  return new Promise((resolve, reject) => {
    http.get(url, (res) => {
      res.resume();
      resolve(res.statusCode);
    }).on('error', reject);
  });
}

export async function json(url, init) {
  const response = await fetch(url, init);
  return response.json();
}

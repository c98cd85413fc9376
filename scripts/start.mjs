// npm start: from a clean clone to live Ps. Prepares, builds, starts agent, demo and a viewer, shows the table; Ctrl-C
// ends it all.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { built, buildAgent, buildFrontend, buildPlugin, buildPreview } from './lib/build.mjs';
import { chooseViewer, startViewer } from './lib/grafana.mjs';
import { checkNode, ensureGo, ensureModules } from './lib/prepare.mjs';
import { Service, answers, freePort } from './lib/services.mjs';
import { Advice, cacheDir, endAll, output, root, say } from './lib/shell.mjs';

const usage = `npm start [-- OPTIONS]

  --preview          show the preview even where a Grafana is
  --no-demo          start no demo; watch what runs anyway
  --phase-seconds N  length of the demo's phases (12)
  --d-seconds N      length of the demo's D phase (150: long enough for the 2 minute alert)
`;

function options(argv) {
  const o = { preview: false, demo: true, phaseSeconds: '12', dSeconds: '150' };
  for (let i = 0; i < argv.length; i++) {
    switch (argv[i]) {
      case '--preview':
        o.preview = true;
        break;
      case '--no-demo':
        o.demo = false;
        break;
      case '--phase-seconds':
        o.phaseSeconds = argv[++i];
        break;
      case '--d-seconds':
        o.dSeconds = argv[++i];
        break;
      case '--help':
        say(usage);
        process.exit(0);
        break;
      default:
        throw new Advice(`There is no option ${argv[i]}.\n\n${usage}`);
    }
  }
  return o;
}

const began = Date.now();
const seconds = () => `${((Date.now() - began) / 1000).toFixed(1)} s`;
const services = []; // in the order of their start
const remove = []; // directories of this run alone
let stopping;

/** Ends everything, first what draws on the terminal; safe to call twice. */
function stop() {
  stopping ??= (async () => {
    endAll('SIGTERM');
    await services.at(-1)?.stop();
    await Promise.all(services.slice(0, -1).map((service) => service.stop()));
    remove.forEach((dir) => fs.rmSync(dir, { recursive: true, force: true }));
  })();
  return stopping;
}

async function main() {
  const o = options(process.argv.slice(2));
  checkNode();
  if (process.platform !== 'linux') {
    throw new Advice(
      'The agent observes Linux only. On other systems start docker-compose.yaml, or run this in a Linux VM.'
    );
  }
  const viewer = chooseViewer(o.preview);

  // The network works for npm while the processors work for Go.
  const buildGo = async () => {
    const env = await ensureGo();
    await buildAgent(env);
    await buildPlugin(env);
    return env;
  };
  const [goEnv] = await Promise.all([buildGo(), ensureModules()]);
  await buildFrontend();
  if (viewer.kind === 'preview') {
    await buildPreview(goEnv);
  }
  say(`built in ${seconds()}`);

  const stateDir = path.join(cacheDir, 'start');
  const logDir = path.join(cacheDir, 'logs');
  const runDir = fs.mkdtempSync(path.join(os.tmpdir(), 'pscope-'));
  remove.push(runDir);
  const socket = path.join(runDir, 'pscope.sock');
  const taken = new Set();
  const port = async (wanted, what) => {
    const free = await freePort(wanted, taken);
    if (free !== wanted) {
      say(`port ${wanted} is in use: ${what} takes ${free}`);
    }
    return free;
  };

  const bin = path.join(root, built.agent);
  const agentPort = await port(9477, 'the agent');
  const agent = new Service(
    'agent',
    bin,
    [
      ...['agent', '--socket', socket, '--listen', `127.0.0.1:${agentPort}`, '--data-dir', path.join(stateDir, 'history')],
      // The demo switches threads as often as it can, which on a small virtual machine would pass the usual 2 %; it is
      // to show everything.
      ...(o.demo ? ['--cost-budget', '10'] : []),
    ],
    { logDir }
  );
  services.push(agent);
  if (o.demo) {
    const demoPort = await port(9480, 'the demo');
    const args = ['--listen', `127.0.0.1:${demoPort}`, '--phase-seconds', o.phaseSeconds, '--d-seconds', o.dSeconds];
    services.push(new Service('demo', path.join(root, built.demo), args, { logDir }));
    say(`demo:   http://127.0.0.1:${demoPort}/phase says which phase is on`);
  }
  await agent.until(() => answers(`http://127.0.0.1:${agentPort}/-/ready`), 30);
  say(`agent:  http://127.0.0.1:${agentPort}/metrics, socket ${socket}`);
  const doctor = spawnedDoctor(bin, socket);
  if (doctor && (doctor.agent?.mode ?? doctor.mode) !== 'ebpf') {
    say('        it takes snapshots only; for eBPF run "sudo npm start", or see "bin/pscope doctor"');
  }
  const { url } = await startViewer(viewer, {
    port: await port(3000, viewer.kind),
    socket,
    stateDir,
    logDir,
    services,
  });
  say(`${viewer.kind === 'preview' ? 'preview:' : 'Grafana:'} ${url}`);
  say(`ready after ${seconds()}; logs are in ${path.relative(root, logDir)}/; Ctrl-C stops everything`);
  say();

  // The table has the terminal until it ends, which it does only when told.
  const top = spawn(bin, ['top', '--plain', '--socket', socket], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const topEnded = new Promise((resolve) => top.once('close', resolve));
  services.push({ stop: () => (top.kill('SIGTERM'), topEnded) });
  const broken = services.filter((s) => s instanceof Service).map((s) => s.ended.then((how) => ({ service: s, how })));
  const first = await Promise.race([topEnded.then(() => undefined), ...broken]);
  if (first && !stopping) {
    throw new Advice(`${first.service.name} ${first.how}; its log is ${first.service.log}.`);
  }
}

/** The report of doctor, which has the mode of the agent that runs; its exit code says no more than that. */
function spawnedDoctor(bin, socket) {
  const text = output('sh', ['-c', '"$0" doctor --json --socket "$1" || true', bin, socket]);
  return text ? JSON.parse(text) : undefined;
}

let exitCode = 0;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => void stop().then(() => process.exit(exitCode)));
}
try {
  await main();
} catch (error) {
  if (!stopping) {
    exitCode = 1;
    process.stderr.write(`\n${error instanceof Advice ? error.message : error.stack}\n`);
  }
}
await stop();
process.exit(exitCode);

// npm test: prepares what is missing, runs every check and test, ends with "N passed, N failed".
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { buildAgent, buildFrontend, buildPlugin, buildPreview } from './lib/build.mjs';
import { regenerated } from './lib/generated.mjs';
import { apt, checkNode, ensureGo, ensureModules } from './lib/prepare.mjs';
import { Advice, cacheDir, endAll, isRoot, must, root, say, which } from './lib/shell.mjs';
import { commitOf, contractOf, lastRelease, released } from './lib/released.mjs';
import { command, failed, passed, readGoTest, readJest, readTap, runSteps, skipped } from './lib/steps.mjs';
import { asUser } from './lib/unprivileged.mjs';

const usage = `npm test [-- OPTIONS]

  --only GROUPS    only these groups, separated by commas: scripts, go, ts, gen, build, browser, kernels
  --packages LIST  only these Go packages in the step "go: test", separated by commas
`;

const groups = ['scripts', 'go', 'ts', 'gen', 'build', 'browser', 'kernels'];

/** Boots the kernels of the group "kernels". */
const emulator = 'qemu-system-x86_64';

/** In continuous integration nothing may be left out for want of a tool. */
const ci = Boolean(process.env.CI);

function options(argv) {
  const o = { only: groups, packages: ['./...'] };
  for (let i = 0; i < argv.length; i++) {
    const [name, inline] = argv[i].split(/=(.*)/s);
    const value = () => inline ?? argv[++i] ?? '';
    if (name === '--only') {
      o.only = value().split(',');
      const unknown = o.only.filter((g) => !groups.includes(g));
      if (unknown.length) {
        throw new Advice(`There is no group ${unknown.join(', ')}.\n\n${usage}`);
      }
    } else if (name === '--packages') {
      o.packages = value().split(',');
    } else if (name === '--help') {
      say(usage);
      process.exit(0);
    } else {
      throw new Advice(`There is no option ${name}.\n\n${usage}`);
    }
  }
  return o;
}

/** Debian packages for tests alone: what is needed of each, and the group that needs it. */
const wanted = [
  {
    group: 'go',
    there: () => which('gcc'),
    packages: ['gcc', 'libc6-dev'],
    why: 'the race detector needs a C compiler',
  },
  { group: 'go', there: () => which('git'), packages: ['git'], why: 'some tests read the history' },
  { group: 'go', there: () => which('rpm'), packages: ['rpm'], why: 'the RPM package is installed and removed by it' },
  { group: 'ts', there: () => which('promtool'), packages: ['prometheus'], why: 'promtool tests the Prometheus rules' },
  {
    group: 'gen',
    there: () => which('clang') && fs.existsSync('/usr/include/bpf/bpf_helpers.h'),
    packages: ['clang', 'llvm', 'libbpf-dev'],
    why: 'the BPF programs are compiled anew and compared',
  },
  {
    group: 'browser',
    there: () => which('chromium') || which('google-chrome') || which('chromium-browser'),
    packages: ['chromium'],
    why: 'the browser tests need a browser',
  },
  {
    group: 'kernels',
    there: () => which(emulator),
    packages: ['qemu-system-x86'],
    why: 'the oldest supported kernel and the newest are booted in it',
  },
];

/** Installs what is missing where that is possible; the steps themselves judge what then is still missing. */
async function installTools(only) {
  const missing = wanted.filter((w) => only.includes(w.group) && !w.there());
  for (const w of missing) {
    try {
      await apt(w.packages, w.why);
    } catch (error) {
      say(error.message);
    }
  }
}

async function prepare(o) {
  checkNode();
  await installTools(o.only);
  const goEnv = async () => {
    const env = await ensureGo();
    await must('fetching Go modules', 'go', ['mod', 'download'], { env });
    return env;
  };
  const [env] = await Promise.all([goEnv(), ensureModules()]);
  return env;
}

/** gofmt lists what it would change. */
async function gofmt(env) {
  const bad = [];
  const r = await command('gofmt', 'gofmt', ['-l', ...goFolders()], {
    env,
    read: (lines) => (bad.push(...lines.filter(Boolean)), passed()),
  });
  return r.failed || !bad.length ? r : failed('gofmt', `not formatted: ${bad.join(', ')}; run "gofmt -w" on them`);
}

const goFolders = () =>
  ['pkg', 'e2e', 'tools', 'bench', 'Magefile.go'].filter((f) => fs.existsSync(path.join(root, f)));

async function jest() {
  const report = path.join(cacheDir, 'jest.json');
  fs.rmSync(report, { force: true });
  const r = await command('jest', 'npx', ['jest', '--ci', '--maxWorkers=2', '--json', `--outputFile=${report}`]);
  return fs.existsSync(report) ? readJest(JSON.parse(fs.readFileSync(report, 'utf8'))) : r;
}

/** One step a kind of generated code: made anew in a scratch directory and compared with what is committed. */
async function compareGenerated(kind, env) {
  const r = await regenerated(kind, env);
  if (r.missing) {
    return ci ? failed(kind, `${r.missing}; in continuous integration this check must run`) : skipped(r.missing);
  }
  return r.different.length
    ? failed(
        kind,
        `${r.different.join('\n')}\nCommitted code differs from what its source makes. Run "${r.command}" and commit the result.\n${r.output ?? ''}`
      )
    : passed();
}

/** The committed contract of the last release is what its commit says, where this clone holds that commit. */
async function releasedContract() {
  const name = 'contract of the last release';
  const { version, commit } = lastRelease();
  if (!commitOf(commit)) {
    return skipped(`this clone lacks the commit of ${version} (${commit.slice(0, 10)}): fetch the whole history`);
  }
  return (await contractOf(commit)) === fs.readFileSync(path.join(root, released.contract), 'utf8')
    ? passed()
    : failed(name, `${released.contract} is not that of ${version}; run "npm run released -- ${commit}"`);
}

const script = (name) => JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')).scripts[name];
const npmRun = (name, options) =>
  script(name)
    ? command(name, 'npm', ['run', '--silent', name], options)
    : Promise.resolve(failed(name, `package.json has no script "${name}"`));

async function asStep(what, build) {
  await build();
  return passed();
}

function steps(o, env) {
  const race = { ...env, CGO_ENABLED: '1' };
  const plain = { ...env, CGO_ENABLED: '0' };
  const all = {
    scripts: [
      {
        name: 'node --test',
        run: () =>
          command('scripts', process.execPath, ['--test', '--test-reporter=tap', ...nodeTests('scripts')], {
            read: readTap,
          }),
      },
    ],
    go: [
      { name: 'gofmt', run: () => gofmt(env) },
      { name: 'vet', run: () => command('vet', 'go', ['vet', './...'], { env: plain }) },
      {
        name: 'staticcheck',
        run: () =>
          command('staticcheck', 'go', ['tool', '-modfile=tools/lint/go.mod', 'staticcheck', './...'], { env: plain }),
      },
      {
        name: isRoot ? 'test -race' : 'test -race (without root: no eBPF)',
        // One package at a time: several of them load BPF programs and measure time.
        run: () =>
          command(
            'go-test',
            'go',
            ['test', '-race', '-p', '1', '-count', '1', '-timeout', '30m', '-json', ...o.packages],
            { env: race, read: readGoTest, timeout: 55 * 60_000 }
          ),
      },
      { name: 'test -race with four capabilities', run: () => withCapabilities(race) },
      {
        name: 'deploy (a module of its own)',
        run: () =>
          command('go-deploy', 'go', ['test', '-count', '1', '-json', './...'], {
            env: plain,
            cwd: path.join(root, 'deploy', 'test'),
            read: readGoTest,
          }),
      },
      {
        name: 'packages (a module of its own)',
        run: () =>
          command('go-packages', 'go', ['test', '-count', '1', '-timeout', '20m', '-json', './...'], {
            env: plain,
            cwd: path.join(root, 'deploy', 'packages'),
            read: readGoTest,
            timeout: 25 * 60_000,
          }),
      },
    ],
    ts: [
      { name: 'typecheck', run: () => npmRun('typecheck') },
      { name: 'eslint', run: () => npmRun('lint') },
      { name: 'jest', run: jest },
    ],
    gen: [
      { name: 'buf lint', run: () => command('buf-lint', 'npx', ['buf', 'lint'], { env }) },
      { name: 'buf breaking: agents and plugins of the last release', run: () => npmRun('breaking', { env }) },
      { name: "contract of the last release is its commit's", run: releasedContract },
      { name: 'protocol code is current', run: () => compareGenerated('proto', env) },
      { name: 'BPF objects are current', run: () => compareGenerated('bpf', env) },
      { name: 'what Go and TypeScript share is current', run: () => compareGenerated('contract', env) },
      { name: 'boards and rules are current', run: () => compareGenerated('boards', env) },
    ],
    build: [
      {
        name: 'all platforms (mage)',
        run: () => command('mage', 'go', ['tool', 'mage', '-v'], { env: plain, timeout: 30 * 60_000 }),
      },
      { name: 'frontend', run: () => asStep('frontend', buildFrontend) },
      {
        name: 'licences are current',
        run: () => command('licences', 'go', ['run', './tools/licences'], { env: plain }),
      },
      {
        name: 'agent, plugin and preview',
        run: () =>
          asStep('agent', async () => {
            await buildAgent(env);
            await buildPlugin(env);
            await buildPreview(env);
          }),
      },
      { name: 'dist is complete', run: checkDist },
    ],
    browser: [
      {
        name: 'preview in Chromium',
        run: () =>
          which('chromium') || which('google-chrome') || which('chromium-browser')
            ? browser(env)
            : Promise.resolve(ci ? failed('browser', 'no browser is installed') : skipped('no browser is installed')),
      },
    ],
    kernels: [{ name: 'the oldest and the newest (npm run test:kernels has all)', run: () => kernels(plain) }],
  };
  return groups.filter((g) => o.only.includes(g)).flatMap((group) => all[group].map((s) => ({ group, ...s })));
}

/**
 * What judges estimates, or what happens to processes beside other tools: that is the same whoever attaches, takes
 * minutes, and is tried as root.
 */
const forRootOnly =
  'TestMigrationsAgainstTrace|TestExecStorm|TestBeside|TestTwoAgents|TestObservedInWindows|TestWindows';

/** The collector's tests once more, as the user that docs/install.md tells to run the agent as. */
async function withCapabilities(env) {
  const user = isRoot ? asUser(env) : undefined;
  if (!user) {
    const why = isRoot
      ? 'setpriv (package util-linux) is not installed'
      : 'only root can give another user capabilities';
    return ci ? failed('four capabilities', `${why}; in continuous integration these tests must run`) : skipped(why);
  }
  try {
    const args = [
      'test',
      '-race',
      '-count',
      '1',
      '-timeout',
      '20m',
      '-json',
      '-skip',
      forRootOnly,
      '-exec',
      user.exec,
      './pkg/collector/...',
    ];
    return await command('go-test-user', 'go', args, { env, read: readGoTest, timeout: 40 * 60_000 });
  } finally {
    user.end();
  }
}

/** The browser tests need what the build makes; on their own they make it first. */
async function browser(env) {
  await buildAgent(env);
  await buildPlugin(env);
  await buildFrontend();
  await buildPreview(env);
  return command(
    'browser',
    process.execPath,
    ['--test', '--test-reporter=tap', '--test-concurrency=1', ...nodeTests('e2e')],
    { env, read: readTap, timeout: 30 * 60_000 }
  );
}

/**
 * Boots two kernels and checks there, as two users, what is promised. A machine that emulates two CPUs beside its own
 * work starves them now and then: so shares may differ by more than in "npm run test:kernels", and what is not as
 * promised is tried again.
 */
function kernels(env) {
  const missing = [emulator, 'apt-get', 'dpkg-deb'].filter((program) => !which(program));
  if (missing.length) {
    const why = `${missing.join(', ')} not found: kernels come as Debian packages and are booted in qemu`;
    return Promise.resolve(ci ? failed('kernels', why) : skipped(why));
  }
  const args = [
    'run',
    './tools/kernels',
    '-tap',
    '-only',
    '6.1/amd64,7.2/amd64',
    '-users',
    'root,capabilities',
    '-tries',
    '3',
    '-share-error',
    '0.06',
  ];
  return command('kernels', 'go', args, { env, read: readTap, timeout: 40 * 60_000 });
}

/** Files are named one by one: given a folder, Node would take this very script for a test, too. */
function nodeTests(folder) {
  const found = fs
    .readdirSync(path.join(root, folder), { recursive: true })
    .filter((f) => f.endsWith('.test.mjs') && !f.includes('node_modules'));
  return found.map((f) => path.join(folder, f)).sort();
}

/** The files that plugin.json names. */
function namedByPlugin() {
  const { info, includes } = JSON.parse(fs.readFileSync(path.join(root, 'plugin.json'), 'utf8'));
  return [...Object.values(info.logos), ...[...info.screenshots, ...includes].map((file) => file.path)];
}

/** What a user unpacks must hold the plugin and the agent for every platform. */
function checkDist() {
  const needed = [
    'module.js',
    'plugin.json',
    'README.md',
    'CHANGELOG.md',
    'LICENSE',
    'THIRD_PARTY_NOTICES.txt',
    ...['linux_amd64', 'linux_arm64', 'darwin_amd64', 'darwin_arm64', 'windows_amd64.exe'].map(
      (p) => `gpx_pscope_${p}`
    ),
    ...['linux_amd64', 'linux_arm64'].map((p) => `pscope_${p}`),
    // Says of which Go files the plugin was made; Grafana's catalog asks for it.
    'go_plugin_build_manifest',
    ...namedByPlugin(),
  ];
  const missing = needed.filter((f) => !fs.existsSync(path.join(root, 'dist', f)));
  return missing.length ? failed('dist is complete', `dist lacks ${missing.join(', ')}`) : passed();
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    endAll('SIGKILL');
    process.exit(130);
  });
}
let exitCode = 1;
try {
  const o = options(process.argv.slice(2));
  const began = Date.now();
  const env = await prepare(o);
  say(`prepared in ${((Date.now() - began) / 1000).toFixed(0)} s on ${os.cpus().length} CPUs\n`);
  exitCode = await runSteps(steps(o, env));
} catch (error) {
  say(error instanceof Advice ? error.message : error.stack);
  say('\n0 passed, 1 failed');
}
process.exit(exitCode);

// What a fresh machine lacks: a Go toolchain, the npm packages, Debian packages.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { Advice, cacheDir, isRoot, must, output, root, say, which } from './shell.mjs';

const oldestNode = 20;

export function checkNode() {
  if (Number(process.versions.node.split('.')[0]) < oldestNode) {
    throw new Advice(
      `This is Node ${process.versions.node}; P-Scope's tooling needs Node ${oldestNode} or later, see https://nodejs.org/en/download.`
    );
  }
}

/** Installs Debian packages; says what to do where it can't. */
export async function apt(packages, why) {
  const list = packages.join(' ');
  if (!isRoot || !which('apt-get')) {
    throw new Advice(`${why}. Install it, on Debian or Ubuntu with: sudo apt-get install ${list}`);
  }
  say(`installing ${list} (${why})`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const install = ['-o', 'DPkg::Lock::Timeout=300', 'install', '-y', '--no-install-recommends', ...packages];
  const log = path.join(cacheDir, 'logs', 'apt.log');
  try {
    await must('installing', 'apt-get', install, { env, log });
  } catch {
    // The package lists of a fresh machine are empty or stale.
    await must('apt-get update', 'apt-get', ['-o', 'DPkg::Lock::Timeout=300', 'update'], { env, log });
    await must(`installing ${list}`, 'apt-get', install, { env, log });
  }
}

/** The Go version go.mod asks for, for example "1.26.7". */
export function wantedGo() {
  const mod = fs.readFileSync(path.join(root, 'go.mod'), 'utf8');
  return (mod.match(/^toolchain go(\S+)/m) ?? mod.match(/^go (\S+)/m))[1];
}

/** Compares dotted versions: negative when a is older. */
export function compareVersions(a, b) {
  const [x, y] = [a, b].map((v) => v.split('.').map(Number));
  for (let i = 0; i < Math.max(x.length, y.length); i++) {
    if ((x[i] ?? 0) !== (y[i] ?? 0)) {
      return (x[i] ?? 0) - (y[i] ?? 0);
    }
  }
  return 0;
}

/**
 * Finds or fetches a Go toolchain that can build this module.
 *
 * @returns {Promise<NodeJS.ProcessEnv>} the environment in which `go` is that toolchain
 */
export async function ensureGo() {
  const env = { ...process.env };
  const usual = ['/usr/local/go/bin', path.join(os.homedir(), 'go', 'bin'), '/usr/lib/go/bin'];
  env.PATH = [env.PATH, ...usual].filter(Boolean).join(path.delimiter);
  if (!which('go', env)) {
    await apt(['golang-go', 'ca-certificates'], `Go ${wantedGo()} is needed and there is no go command`);
  }
  const want = wantedGo();
  const version = () =>
    output('go', ['env', 'GOVERSION'], { env: { ...env, GOTOOLCHAIN: 'local' }, cwd: os.tmpdir() })?.match(
      /go(\d[\d.]*)/
    )?.[1];
  const have = version();
  if (!have) {
    throw new Advice('"go env GOVERSION" prints no version; install Go from https://go.dev/dl/.');
  }
  if (compareVersions(have, want) >= 0) {
    return env;
  }
  if (compareVersions(have, '1.21') >= 0) {
    // This one fetches the toolchain that go.mod asks for by itself, unless forbidden.
    say(`Go ${have} is here; it fetches Go ${want}`);
    env.GOTOOLCHAIN = 'auto';
    await must(`fetching Go ${want}`, 'go', ['version'], {
      env,
      advice: `Install Go ${want} or later from https://go.dev/dl/.`,
    });
    return env;
  }
  say(`Go ${have} is too old to fetch a newer one by itself; fetching Go ${want} as a module`);
  const dir = await fetchToolchain(want, env);
  return { ...env, PATH: `${path.join(dir, 'bin')}${path.delimiter}${env.PATH}`, GOTOOLCHAIN: 'local' };
}

/** Fetches a toolchain through the module proxy, as Go since 1.21 does it, and gives its directory. */
async function fetchToolchain(want, env) {
  const arch = { x64: 'amd64', arm64: 'arm64' }[process.arch];
  const module = `golang.org/toolchain@v0.0.1-go${want}.${process.platform}-${arch}`;
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'pscope-go-'));
  try {
    let text = '';
    await must(`fetching Go ${want}`, 'go', ['mod', 'download', '-json', module], {
      cwd: work,
      env: { ...env, GOFLAGS: '-mod=mod' },
      onLine: (line, stream) => (text += stream === 'stdout' ? `${line}\n` : ''),
      advice: `Install Go ${want} or later from https://go.dev/dl/.`,
    });
    const dir = JSON.parse(text).Dir;
    // A module's files can't be executed; these are programs.
    for (const folder of ['bin', path.join('pkg', 'tool')]) {
      for (const entry of fs.readdirSync(path.join(dir, folder), { recursive: true, withFileTypes: true })) {
        if (entry.isFile()) {
          fs.chmodSync(path.join(entry.parentPath ?? entry.path, entry.name), 0o755);
        }
      }
    }
    return dir;
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
}

/** Whether node_modules holds what package-lock.json asks for. */
export function modulesAreCurrent(dir = root) {
  const read = (file) => {
    try {
      return JSON.parse(fs.readFileSync(path.join(dir, file), 'utf8')).packages;
    } catch {
      return undefined;
    }
  };
  const want = read('package-lock.json');
  // npm keeps a lock of what it has installed.
  const have = read(path.join('node_modules', '.package-lock.json'));
  if (!want || !have) {
    return false;
  }
  return Object.entries(want).every(
    ([name, p]) => name === '' || p.optional || p.devOptional || p.peer || have[name]?.version === p.version
  );
}

export async function ensureModules() {
  if (modulesAreCurrent()) {
    return;
  }
  say('installing npm packages (about two minutes the first time)');
  await must('npm ci', 'npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { env: process.env });
}

// npm run test:grafana: type check and tests against the oldest and the newest Grafana that P-Scope supports.
//
// package.json holds the packages of one Grafana; a plugin runs with those of the Grafana it is loaded into, React
// among them. Each version gets a folder of its own below .cache, with a copy of src beside its packages: what is found
// nowhere nearer (TypeScript, jest) comes from the node_modules at the top.
import fs from 'node:fs';
import path from 'node:path';

import { ensureModules } from './lib/prepare.mjs';
import { Advice, cacheDir, endAll, must, root, say } from './lib/shell.mjs';
import { whenChanged } from './lib/stamp.mjs';

const usage = `npm run test:grafana [-- OPTIONS]

  --only VERSIONS  only these of the versions, separated by commas
  --types          the type check alone, without the tests
`;

/** The Grafanas, each with the React it brings. */
const grafanas = [
  {
    version: '12.3.0',
    react: '18.3.1',
    types: ['18.3.31', '18.3.7'],
    // Asked for from a Git host up to here; the same code is in the registry since.
    overrides: { 'react-data-grid': 'npm:@grafana/react-data-grid@7.0.0-beta.57' },
  },
  { version: '13.2.2', react: '19.2.8', types: ['19.2.18', '19.2.4'], overrides: {} },
];

/** The packages that Grafana gives to a plugin in the version it has itself. */
const given = ['@grafana/data', '@grafana/i18n', '@grafana/runtime', '@grafana/schema', '@grafana/ui'];

/** What must find its React beside it, or components and tests would each have one of their own. */
const nearReact = ['@testing-library/dom', '@testing-library/react', '@testing-library/user-event'];

/** What is copied beside the packages of a version. */
const sources = [
  'src',
  '.config',
  'jest.config.js',
  'jest-setup.js',
  // Read by tests.
  'tools/contract/cases',
  'pkg/plugin/frames/testdata',
];

/**
 * Types that no version has beside it, such as those of jest, are the repository's; a name found twice is that of the
 * version.
 */
const tsconfig = {
  extends: '../../../tsconfig.json',
  compilerOptions: {
    rootDir: 'src',
    baseUrl: 'src',
    typeRoots: ['node_modules/@types', '../../../node_modules/@types'],
    noEmit: true,
    pretty: false,
  },
  include: ['src', '.config/types'],
};

function options(argv) {
  const o = { only: grafanas.map((g) => g.version), tests: true };
  for (let i = 0; i < argv.length; i++) {
    const [name, inline] = argv[i].split(/=(.*)/s);
    if (name === '--only') {
      o.only = (inline ?? argv[++i] ?? '').split(',');
    } else if (name === '--types') {
      o.tests = false;
    } else {
      throw new Advice(usage);
    }
  }
  return o;
}

/** The package.json of a version: our dependencies with Grafana's and React's replaced. */
function manifest({ version, react, types, overrides }) {
  const { dependencies, devDependencies } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
  const near = Object.fromEntries(nearReact.map((name) => [name, devDependencies[name]]));
  return {
    private: true,
    dependencies: {
      ...dependencies,
      ...near,
      ...Object.fromEntries(given.map((name) => [name, version])),
      react,
      'react-dom': react,
      '@types/react': types[0],
      '@types/react-dom': types[1],
    },
    overrides,
  };
}

/** Installs the packages of a version, unless they are there. */
async function install(grafana, dir) {
  fs.mkdirSync(dir, { recursive: true });
  fs.writeFileSync(path.join(dir, 'package.json'), `${JSON.stringify(manifest(grafana), undefined, 2)}\n`);
  const inside = path.relative(root, dir);
  const stamp = { inputs: [path.join(inside, 'package.json')], outputs: [path.join(inside, 'node_modules')] };
  await whenChanged(`grafana-${grafana.version}`, stamp, async () => {
    say(`installing the packages of Grafana ${grafana.version} (about two minutes)`);
    // Peers of one Grafana's packages disagree about React among themselves.
    const args = ['install', '--legacy-peer-deps', '--no-audit', '--no-fund', '--loglevel=error'];
    await must(`the packages of Grafana ${grafana.version}`, 'npm', args, { cwd: dir });
  });
}

async function check(grafana, { tests }) {
  const dir = path.join(cacheDir, 'grafana', grafana.version);
  const name = `Grafana ${grafana.version}, React ${grafana.react}`;
  await install(grafana, dir);
  for (const source of sources) {
    fs.rmSync(path.join(dir, source), { recursive: true, force: true });
    fs.cpSync(path.join(root, source), path.join(dir, source), { recursive: true });
  }
  fs.writeFileSync(path.join(dir, 'tsconfig.json'), JSON.stringify(tsconfig));
  const log = path.join(cacheDir, 'logs', `grafana-${grafana.version}.log`);
  fs.rmSync(log, { force: true });
  const bin = (file) => path.join(root, 'node_modules', ...file.split('/'));
  await must(`${name}: type check`, process.execPath, [bin('typescript/bin/tsc')], { cwd: dir, log });
  say(`${name}: types fit`);
  if (tests) {
    const args = ['--ci', '--maxWorkers=2', '--rootDir', dir];
    await must(`${name}: tests`, process.execPath, [bin('jest/bin/jest.js'), ...args], { cwd: dir, log });
    say(`${name}: tests pass`);
  }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    endAll('SIGKILL');
    process.exit(130);
  });
}
try {
  const o = options(process.argv.slice(2));
  const chosen = grafanas.filter((g) => o.only.includes(g.version));
  if (chosen.length !== o.only.length) {
    throw new Advice(`The versions are ${grafanas.map((g) => g.version).join(', ')}.\n\n${usage}`);
  }
  await ensureModules();
  for (const grafana of chosen) {
    await check(grafana, o);
  }
} catch (error) {
  say(error instanceof Advice ? error.message : error.stack);
  process.exitCode = 1;
}

// Building for this machine what `npm start` runs. Releases for all platforms are made by mage.
import fs from 'node:fs';
import path from 'node:path';

import { must, output, root, say } from './shell.mjs';
import { whenChanged } from './stamp.mjs';

export const goArch = { x64: 'amd64', arm64: 'arm64' }[process.arch];

/** What the builds leave, from the top of the repository. */
export const built = {
  agent: path.join('bin', 'pscope'),
  demo: path.join('bin', 'pscope-demo'),
  previewServer: path.join('bin', 'pscope-preview'),
  plugin: path.join('dist', `gpx_pscope_${process.platform}_${goArch}`),
  module: path.join('dist', 'module.js'),
  page: path.join('e2e', 'preview', 'page', 'dist', 'index.html'),
};

export function version() {
  const { version } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
  const commit = output('git', ['rev-parse', '--short=10', 'HEAD']);
  return commit ? `${version}+${commit}` : version;
}

async function goBuild(what, out, pkg, env, variables = '') {
  // Without DWARF, but with symbols: a Go program that P-Scope itself can look into. The flags that compile are those
  // of `go vet` and of mage's plugin, so that a package is compiled once for all of them.
  const args = ['build', '-ldflags', `-w ${variables}`, '-o', out, pkg];
  await must(`building ${what}`, 'go', args, { env: { ...env, CGO_ENABLED: '0' } });
}

/** Agent and demo. Go itself knows what has changed. */
export async function buildAgent(env) {
  await goBuild('the agent', built.agent, './pkg/cmd/pscope', env, `-X main.version=${version()}`);
  // The demo under a name of its own, so that it can be told from the agent in lists.
  fs.rmSync(path.join(root, built.demo), { force: true });
  fs.linkSync(path.join(root, built.agent), path.join(root, built.demo));
}

/** The agent for Linux on another architecture (as Go names it), as it is released. Gives its path. */
export async function buildAgentFor(arch, version, env) {
  const out = path.join('bin', `pscope_linux_${arch}`);
  const args = ['build', '-trimpath', '-ldflags', `-w -X main.version=${version}`, '-o', out, './pkg/cmd/pscope'];
  await must(`building the agent for ${arch}`, 'go', args, {
    env: { ...env, CGO_ENABLED: '0', GOOS: 'linux', GOARCH: arch },
  });
  return path.join(root, out);
}

/** The backend plugin, into dist beside the frontend. */
export async function buildPlugin(env) {
  await goBuild('the backend plugin', built.plugin, './pkg', env);
}

export async function buildFrontend() {
  const inputs = [
    'src',
    '.config',
    'webpack.config.ts',
    'plugin.json',
    'package.json',
    'package-lock.json',
    'tsconfig.json',
    'README.md',
    'CHANGELOG.md',
    'LICENSE',
    'THIRD_PARTY.md',
    'THIRD_PARTY_NOTICES.txt',
  ];
  const did = await whenChanged(
    'frontend',
    { inputs, outputs: [built.module, path.join('dist', 'plugin.json')] },
    async () => {
      say('building the frontend');
      await must('building the frontend', 'npm', ['run', '--silent', 'build']);
    }
  );
  return did;
}

/** The preview: its server and its page. */
export async function buildPreview(env) {
  await goBuild('the preview', built.previewServer, './e2e/preview/server', env);
  const inputs = [path.join('e2e', 'preview', 'page'), 'package.json', 'package-lock.json'];
  await whenChanged('preview', { inputs, outputs: [built.page] }, async () => {
    say('building the preview page');
    await must('building the preview page', 'npm', ['run', '--silent', 'build:preview']);
  });
}

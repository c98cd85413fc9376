// npm run packages: the agent as packages for Debian's kin and Red Hat's, for amd64 and arm64, in bin/packages.
import path from 'node:path';

import { buildAgentFor, version } from './lib/build.mjs';
import { makePackages } from './lib/packages.mjs';
import { ensureGo } from './lib/prepare.mjs';
import { Advice, root, say } from './lib/shell.mjs';

const usage = `npm run packages [-- OPTIONS]

  --version V  the version they bear; that of package.json with the commit unless said otherwise
  --arch LIST  amd64, arm64 or both, separated by commas
  --agent FILE make them of this program, which is for the one --arch, instead of building one
  --systemd DIR take unit and configuration from there
  --into DIR   where they go, bin/packages unless said otherwise
`;

function options(argv) {
  const o = { version: version(), arch: 'amd64,arm64', into: path.join(root, 'bin', 'packages') };
  for (let i = 0; i < argv.length; i++) {
    const [name, inline] = argv[i].split(/=(.*)/s);
    const key = name.replace(/^--/, '');
    if (name === '--help' || !['version', 'arch', 'agent', 'systemd', 'into'].includes(key)) {
      throw new Advice(name === '--help' ? usage : `There is no option ${name}.\n\n${usage}`);
    }
    o[key] = inline ?? argv[++i] ?? '';
  }
  return o;
}

try {
  const { arch, agent, ...o } = options(process.argv.slice(2));
  const env = await ensureGo();
  for (const a of arch.split(',')) {
    const built = agent ?? (await buildAgentFor(a, o.version, env));
    for (const file of await makePackages({ ...o, arch: a, agent: built }, env)) {
      say(file);
    }
  }
} catch (error) {
  say(error instanceof Advice ? error.message : error.stack);
  process.exitCode = 1;
}

// The agent's packages for Debian's kin and Red Hat's, made by nfpm (deploy/packages).
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { must, output, root } from './shell.mjs';

export const formats = ['deb', 'rpm'];

/** Where the packaged agent is; the unit as it stands in deploy/systemd is for one that was copied by hand. */
const program = '/usr/bin/pscope';

/** The unit for the packages. */
export function unitFor(text) {
  const out = text
    .replaceAll('/usr/local/bin/pscope', program)
    // How to install it by hand.
    .replace(/^(#[^\n]*\n)(#  [^\n]*\n)+/, '$1');
  if (out.includes('/usr/local') || !out.includes(`ExecStart=${program} agent`)) {
    throw new Error('deploy/systemd/pscope-agent.service is not as scripts/lib/packages.mjs expects it');
  }
  return out;
}

/**
 * Makes packages of an agent that has been built.
 *
 * @param {{agent: string, arch: string, version: string, into: string, systemd?: string}} o arch as Go names it;
 *   systemd: the folder with unit and configuration, deploy/systemd unless said otherwise
 * @returns {Promise<string[]>} their paths
 */
export async function makePackages(
  { agent, arch, version, into, systemd = path.join(root, 'deploy', 'systemd') },
  env
) {
  const stage = fs.mkdtempSync(path.join(os.tmpdir(), 'pscope-package-'));
  try {
    fs.copyFileSync(agent, path.join(stage, 'pscope'));
    fs.copyFileSync(path.join(systemd, 'pscope.yaml'), path.join(stage, 'pscope.yaml'));
    for (const name of ['LICENSE', 'THIRD_PARTY_NOTICES.txt']) {
      fs.copyFileSync(path.join(root, name), path.join(stage, name));
    }
    const unit = fs.readFileSync(path.join(systemd, 'pscope-agent.service'), 'utf8');
    fs.writeFileSync(path.join(stage, 'pscope-agent.service'), unitFor(unit));
    fs.mkdirSync(into, { recursive: true });
    const made = [];
    for (const format of formats) {
      const target = path.join(into, `pscope_${version}_${arch}.${format}`);
      await must(
        `making ${path.basename(target)}`,
        'go',
        [
          'tool',
          `-modfile=${path.join(root, 'deploy', 'packages', 'go.mod')}`,
          'nfpm',
          'package',
          '--config',
          path.join('deploy', 'packages', 'nfpm.yaml'),
          '--packager',
          format,
          '--target',
          target,
        ],
        {
          env: {
            ...env,
            VERSION: version,
            ARCH: arch,
            STAGE: stage,
            // The same files make the same package.
            SOURCE_DATE_EPOCH: output('git', ['log', '-1', '--format=%ct']) ?? '0',
          },
        }
      );
      made.push(target);
    }
    return made;
  } finally {
    fs.rmSync(stage, { recursive: true, force: true });
  }
}

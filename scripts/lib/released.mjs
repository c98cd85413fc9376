// The contract of the last release: what agents and plugins of that version say to each other. It is committed, so that
// a clone without tags or history can compare with it.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { Advice, output, root, run } from './shell.mjs';

const dir = path.join('proto', 'released');

/** Where it lies, from the top of the repository. */
export const released = { contract: path.join(dir, 'contract.txtpb'), release: path.join(dir, 'release.json') };

/** Version and commit of the last release. */
export const lastRelease = () => JSON.parse(fs.readFileSync(path.join(root, released.release), 'utf8'));

/** The full hash of a commit, or undefined where this clone does not hold it. */
export const commitOf = (name) => output('git', ['rev-parse', '--verify', '--quiet', `${name}^{commit}`]);

/**
 * The contract as of a commit, as text: the protocol's descriptors without comments and places.
 *
 * @returns {Promise<string>}
 */
export async function contractOf(commit) {
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'pscope-contract-'));
  try {
    const archive = path.join(scratch, 'proto.tar');
    const image = path.join(scratch, 'contract.txtpb');
    // The contract of an even earlier release lies below proto/, too; it is no part of this one.
    const paths = ['proto', `:(exclude)${dir}`];
    const steps = [
      ['git', ['archive', '--output', archive, commit, '--', ...paths]],
      ['tar', ['--extract', '--file', archive, '--directory', scratch]],
      [
        path.join(root, 'node_modules', '.bin', 'buf'),
        ['build', path.join(scratch, 'proto'), '--exclude-source-info', '--output', image],
      ],
    ];
    for (const [cmd, args] of steps) {
      const lines = [];
      const { code } = await run(cmd, args, { onLine: (line) => lines.push(line) });
      if (code !== 0) {
        throw new Advice(`${cmd} ${args.join(' ')} ended with code ${code}:\n${lines.join('\n')}`);
      }
    }
    return fs.readFileSync(image, 'utf8');
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
}

/** Makes the contract of a commit that of the last release. */
export async function renew(name) {
  const commit = commitOf(name);
  if (!commit) {
    throw new Advice(`This clone has no commit ${name}: name the one that was released, or fetch it.`);
  }
  const { version } = JSON.parse(output('git', ['show', `${commit}:package.json`]));
  fs.mkdirSync(path.join(root, dir), { recursive: true });
  fs.writeFileSync(path.join(root, released.contract), await contractOf(commit));
  fs.writeFileSync(path.join(root, released.release), `${JSON.stringify({ version, commit }, undefined, 2)}\n`);
  return { version, commit };
}

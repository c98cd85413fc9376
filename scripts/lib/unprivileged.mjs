// Go tests as another user than root, with exactly the capabilities that docs/install.md asks for.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { output, which } from './shell.mjs';

/** What the agent is documented to need. */
export const capabilities = ['bpf', 'perfmon', 'sys_ptrace', 'dac_read_search'];

/** The user nobody. */
const user = 65534;

/**
 * A place for a user's files, and the words that make `go test -exec` run a test as that user. `end` removes the place.
 *
 * The tests build Go programs. The user's build cache begins as root's, by hard links, because a new one takes minutes
 * to fill.
 *
 * @param {NodeJS.ProcessEnv} env with a go command
 * @returns {{exec: string, end: () => void} | undefined} undefined without setpriv(1)
 */
export function asUser(env) {
  const setpriv = which('setpriv', env);
  if (!setpriv) {
    return undefined;
  }
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'pscope-user-'));
  const rootsCache = output('go', ['env', 'GOCACHE'], { env });
  const cache = `${rootsCache}-user-${process.pid}`;
  if (output('cp', ['-al', rootsCache, cache], { timeout: 5 * 60_000 }) === undefined) {
    fs.rmSync(cache, { recursive: true, force: true });
    fs.mkdirSync(cache);
  }
  for (const dir of [home, cache, ...fs.readdirSync(cache).map((name) => path.join(cache, name))]) {
    if (fs.statSync(dir).isDirectory()) {
      fs.chownSync(dir, user, user);
    }
  }
  const end = () => [home, cache].forEach((dir) => fs.rmSync(dir, { recursive: true, force: true }));
  const set = ['-all', ...capabilities.map((c) => `+${c}`)].join(',');
  const words = ['env', `HOME=${home}`, `TMPDIR=${home}`, `GOCACHE=${cache}`];
  words.push(`GOMODCACHE=${output('go', ['env', 'GOMODCACHE'], { env })}`, 'GOFLAGS=-buildvcs=false');
  words.push(setpriv, `--reuid=${user}`, `--regid=${user}`, '--clear-groups');
  words.push(`--bounding-set=${set}`, `--inh-caps=${set}`, `--ambient-caps=${set}`);
  return { exec: words.join(' '), end };
}

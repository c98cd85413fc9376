// Generated code is committed; here it is made anew in a scratch directory and compared.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { output, root, run, tail, which } from './shell.mjs';

/** The clang whose output is committed: another one makes other, equally good objects. */
const clangMajor = 14;

const kinds = {
  proto: {
    sources: ['proto', 'buf.yaml', 'buf.gen.yaml', 'go.mod', 'go.sum'],
    outputs: ['pkg/api/pscope', 'src/gen/pscope'],
    cmd: ['node_modules/.bin/buf', ['generate']],
    advice: 'npm run gen:proto',
  },
  bpf: {
    sources: [
      'bpf',
      'tools/bpf-shared',
      'pkg/goruntime',
      'pkg/pstate',
      'pkg/collector/kern/kern.go',
      'pkg/cpufreq/kern/kern.go',
      'go.mod',
      'go.sum',
    ],
    outputs: ['bpf', 'pkg/collector/kern', 'pkg/cpufreq/kern'],
    compared: (name) => name === 'shared.h' || /^(scope|cpufreq)_.*\.(go|o)$/.test(name),
    cmd: ['go', ['generate', './pkg/collector/kern', './pkg/cpufreq/kern']],
    advice: 'go generate ./pkg/collector/kern ./pkg/cpufreq/kern',
    missing() {
      if (!which('clang') || !fs.existsSync('/usr/include/bpf/bpf_helpers.h')) {
        return 'clang and the headers of libbpf are not installed (Debian: apt-get install clang llvm libbpf-dev)';
      }
      const major = output('clang', ['-dumpversion'])?.split('.')[0];
      return Number(major) === clangMajor
        ? undefined
        : `the committed objects were made by clang ${clangMajor}, and this is clang ${major}`;
    },
  },
};

/** Scripts of generators that compare by themselves. */
const checks = { boards: 'gen:dashboards', contract: 'gen:contract' };

/**
 * Makes generated code anew and compares.
 *
 * @returns {Promise<{different: string[], command: string, missing?: string, output?: string}>} missing: why it can't be made here
 */
export async function regenerated(kind, env) {
  if (kind in checks) {
    return itself(checks[kind], env);
  }
  const k = kinds[kind];
  const missing = k.missing?.();
  if (missing) {
    return { different: [], command: k.advice, missing };
  }
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'pscope-gen-'));
  try {
    for (const source of k.sources) {
      fs.cpSync(path.join(root, source), path.join(scratch, source), { recursive: true });
    }
    fs.symlinkSync(path.join(root, 'node_modules'), path.join(scratch, 'node_modules'));
    const log = path.join(scratch, 'generate.log');
    const r = await run(k.cmd[0], k.cmd[1], { cwd: scratch, env, log, timeout: 10 * 60_000 });
    if (r.code !== 0) {
      return { different: [`generating ended with code ${r.code}`], command: k.advice, output: tail(log) };
    }
    const different = k.outputs.flatMap((dir) =>
      compare(path.join(root, dir), path.join(scratch, dir), k.compared).map((d) => `${dir}/${d}`)
    );
    return { different, command: k.advice };
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
}

/** Asks a generator that compares by itself. */
async function itself(script, env) {
  const lines = [];
  const r = await run('npm', ['run', '--silent', script, '--', '--check'], {
    env,
    onLine: (line) => lines.push(line),
  });
  return { different: r.code === 0 ? [] : lines, command: `npm run ${script}` };
}

/** Names of files that differ or are on one side alone. */
export function compare(a, b, wanted = () => true) {
  const list = (dir) =>
    fs.existsSync(dir)
      ? fs
          .readdirSync(dir, { recursive: true, withFileTypes: true })
          .filter((e) => e.isFile() && wanted(e.name))
          .map((e) => path.relative(dir, path.join(e.parentPath ?? e.path, e.name)))
      : [];
  const names = new Set([...list(a), ...list(b)]);
  return [...names].sort().filter((name) => {
    const [x, y] = [a, b].map((dir) =>
      fs.existsSync(path.join(dir, name)) ? fs.readFileSync(path.join(dir, name)) : undefined
    );
    return !x || !y || !x.equals(y);
  });
}

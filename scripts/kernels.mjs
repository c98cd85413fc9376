// npm run test:kernels: boots the supported kernels in qemu and checks there what docs/install.md promises, as each
// user.
import { apt, ensureGo } from './lib/prepare.mjs';
import { Advice, endAll, run, say, which } from './lib/shell.mjs';

const usage = `npm run test:kernels [-- OPTIONS]

  --only KERNELS   only these, separated by commas: 6.1/amd64, 6.12/amd64, 6.12-rt/amd64,
                   7.2/amd64, 7.2/arm64, host (the running one)
  --users USERS    only these, separated by commas: root, capabilities (the four documented ones), with-sys-admin,
                   with-sysctl (kernel.perf_event_paranoid=2), unprivileged
  --seconds N      how long a program is observed, 20 unless said otherwise
  --results        write bench/results/kernels.md and kernels.json
  --merge          with --results: keep what they have of other kernels and users
`;

/** The arguments of tools/kernels. */
function argumentsOf(argv) {
  const out = [];
  let only; // all that tools/kernels knows
  for (let i = 0; i < argv.length; i++) {
    const [name, inline] = argv[i].split(/=(.*)/s);
    const value = () => inline ?? argv[++i] ?? '';
    if (name === '--only') {
      only = value();
    } else if (name === '--users' || name === '--seconds') {
      out.push(`${name.slice(1)}=${value()}`);
    } else if (name === '--results') {
      out.push('-results=bench/results');
    } else if (name === '--merge') {
      out.push('-merge');
    } else {
      throw new Advice(name === '--help' ? usage : `There is no option ${name}.\n\n${usage}`);
    }
  }
  return { only, args: only ? [`-only=${only}`, ...out] : out };
}

/** The emulators that the chosen kernels need. */
async function ensureEmulators(only) {
  for (const [arch, program, debian] of [
    ['amd64', 'qemu-system-x86_64', 'qemu-system-x86'],
    ['arm64', 'qemu-system-aarch64', 'qemu-system-arm'],
  ]) {
    if ((only?.includes(`/${arch}`) ?? true) && !which(program)) {
      await apt([debian], `kernels for ${arch} are booted in ${program}`);
    }
  }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    endAll('SIGKILL');
    process.exit(130);
  });
}
let code = 1;
try {
  const { only, args } = argumentsOf(process.argv.slice(2));
  await ensureEmulators(only);
  const env = await ensureGo();
  ({ code } = await run('go', ['run', './tools/kernels', ...args], { env, onLine: (line) => say(line) }));
} catch (error) {
  say(error instanceof Advice ? error.message : error.stack);
}
process.exit(code);

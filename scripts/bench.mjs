// npm run bench: truth, cost, the agent and what befalls it, measured on this machine against runtime/trace and others;
// results go to bench/results. As root.
import { run, say } from './lib/shell.mjs';
import { ensureGo } from './lib/prepare.mjs';

const usage = `npm run bench [-- OPTIONS]

  --long          more rounds and longer runs: what is committed
  --only NAMES    only these, separated by commas: truth, cost, agent, faults
`;

/** Each benchmark with its arguments: always, for a short run, for a long one. */
const benches = [
  { name: 'truth', always: ['-out', 'bench/results/truth'], short: ['-run', '2s'], long: [] },
  { name: 'cost', always: ['-out', 'bench/results'], short: ['-rounds', '3', '-window', '500ms'], long: [] },
  { name: 'agent', always: ['-out', 'bench/results'], short: ['-run', '15s'], long: [] },
  { name: 'faults', always: ['-out', 'bench/results'], short: ['-times', '2'], long: ['-times', '10', '-churn', '2h'] },
];

const argv = process.argv.slice(2);
if (argv.includes('--help')) {
  say(usage);
  process.exit(0);
}
const at = argv.indexOf('--only');
const only = at < 0 ? benches.map((b) => b.name) : (argv[at + 1] ?? '').split(',');
const unknown = only.filter((name) => !benches.some((b) => b.name === name));
if (unknown.length) {
  say(`There is no benchmark ${unknown.join(', ')}.\n\n${usage}`);
  process.exit(2);
}
const env = await ensureGo();
let code = 0;
for (const b of benches.filter((b) => only.includes(b.name))) {
  say(`\n${b.name}`);
  const args = ['run', `./bench/${b.name}`, ...b.always, ...(argv.includes('--long') ? b.long : b.short)];
  const r = await run('go', args, { env, timeout: 60 * 60_000, onLine: (line) => say(line) });
  code ||= r.code;
}
process.exit(code);

// npm run released -- COMMIT: after a release, makes its contract the one that later versions are compared with.
import { renew, released } from './lib/released.mjs';
import { Advice, say } from './lib/shell.mjs';

const usage = `npm run released -- COMMIT

Writes ${released.contract} and ${released.release}: the contract between agent and plugin
as of COMMIT, the commit of the version just released. Commit both files. "npm test" compares the present contract
with it, and runs the programs of that commit against the present ones.
`;

try {
  const [commit, ...more] = process.argv.slice(2);
  if (!commit || more.length || commit.startsWith('-')) {
    throw new Advice(usage);
  }
  const r = await renew(commit);
  say(`${released.contract} is the contract of ${r.version}, commit ${r.commit}`);
} catch (error) {
  say(error instanceof Advice ? error.message : error.stack);
  process.exitCode = 1;
}

// node scripts/with-go.mjs COMMAND ...: runs a command with the Go that go.mod asks for, and fetches that first where the
// one at hand is older.
import { spawnSync } from 'node:child_process';
import { Advice, say } from './lib/shell.mjs';
import { ensureGo } from './lib/prepare.mjs';

const [command, ...args] = process.argv.slice(2);
try {
  const done = spawnSync(command, args, { env: await ensureGo(), stdio: 'inherit' });
  if (done.error) {
    throw new Advice(`${command} can't be started: ${done.error.message}`);
  }
  process.exit(done.status ?? 1);
} catch (err) {
  if (!(err instanceof Advice)) {
    throw err;
  }
  say(err.message);
  process.exit(1);
}

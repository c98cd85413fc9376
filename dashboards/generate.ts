import * as fs from 'node:fs';
import * as path from 'node:path';

import { alertingFile } from './alerting';
import { cpuBoard } from './cpu';
import { fleetBoard } from './fleet';
import { processBoard } from './process';
import { prometheusRules } from './prometheusRules';
import { selfBoard } from './self';

/** Every generated file, by its path from the top of the repository. */
export function generated(): Map<string, string> {
  const files = new Map<string, string>();
  for (const board of [processBoard(), fleetBoard(), cpuBoard(), selfBoard()]) {
    files.set(`provisioning/dashboards/${board.uid}.json`, `${JSON.stringify(board, null, 2)}\n`);
  }
  files.set('provisioning/alerting/pscope-rules.yaml', alertingFile());
  files.set('deploy/prometheus/rules/pscope.yaml', prometheusRules());
  return files;
}

/** The generated files whose committed text differs from what the sources make. */
export function drifted(root: string): string[] {
  return [...generated()]
    .filter(([name, text]) => {
      const file = path.join(root, name);
      return !fs.existsSync(file) || fs.readFileSync(file, 'utf8') !== text;
    })
    .map(([name]) => name);
}

function main(root: string, check: boolean): void {
  const changed = drifted(root);
  if (check) {
    if (changed.length > 0) {
      console.error(
        `Not what dashboards/ makes: ${changed.join(', ')}. Run "npm run gen:dashboards" and commit the result.`
      );
      process.exitCode = 1;
    }
    return;
  }
  const files = generated();
  for (const name of changed) {
    const file = path.join(root, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, files.get(name) ?? '');
    console.log(`wrote ${name}`);
  }
}

if (require.main === module) {
  main(process.cwd(), process.argv.includes('--check'));
}

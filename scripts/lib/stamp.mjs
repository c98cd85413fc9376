// Remembering what a build was made from, so that the next one can be left out.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

import { cacheDir, root } from './shell.mjs';

/**
 * A hash of the names and contents of files and folders, named from the top of the repository. Absent ones count as
 * absent.
 */
export function contentHash(inputs, dir = root) {
  const hash = createHash('sha256');
  const visit = (name) => {
    const file = path.join(dir, name);
    const stat = fs.statSync(file, { throwIfNoEntry: false });
    if (stat?.isDirectory()) {
      for (const entry of fs.readdirSync(file).sort()) {
        if (entry !== 'node_modules' && entry !== 'dist') {
          visit(path.join(name, entry));
        }
      }
    } else {
      hash.update(`${name}\0${stat ? stat.size : 'absent'}\0`);
      if (stat) {
        hash.update(fs.readFileSync(file));
      }
    }
  };
  inputs.forEach(visit);
  return hash.digest('hex');
}

/**
 * Calls build unless inputs are unchanged since it last succeeded and all outputs are there.
 *
 * @returns {Promise<boolean>} whether it was built
 */
export async function whenChanged(name, { inputs, outputs }, build) {
  const file = path.join(cacheDir, 'stamps', name);
  const now = contentHash(inputs);
  const there = outputs.every((o) => fs.existsSync(path.join(root, o)));
  if (there && fs.existsSync(file) && fs.readFileSync(file, 'utf8') === now) {
    return false;
  }
  fs.rmSync(file, { force: true });
  await build();
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, now);
  return true;
}

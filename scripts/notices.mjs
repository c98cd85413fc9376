// Part of npm run build: what others wrote must ship with its notices.
import fs from 'node:fs';
import path from 'node:path';

import { root } from './lib/shell.mjs';

for (const name of ['THIRD_PARTY.md', 'THIRD_PARTY_NOTICES.txt']) {
  fs.copyFileSync(path.join(root, name), path.join(root, 'dist', name));
}

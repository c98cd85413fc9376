import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

import { circles } from './circles.mjs';
import { root } from './shell.mjs';

test('a circle is found whatever it is made of', (t) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'pscope-circles-'));
  t.after(() => fs.rmSync(dir, { recursive: true }));
  const files = {
    'one.ts': `import type { Two } from './two';\nexport type One = Two;`,
    'two.tsx': `export * from './three';\nexport type Two = string;`,
    'three.ts': `export const three = () => import('./one');`,
    'four.ts': `import { three } from './three';\nimport fs from 'node:fs';\nexport const four = [three, fs];`,
  };
  for (const [name, text] of Object.entries(files)) {
    fs.writeFileSync(path.join(dir, name), text);
  }
  const names = circles([dir]).map((circle) => circle.map((file) => path.basename(file)));
  assert.equal(names.length, 1);
  assert.deepEqual(new Set(names[0]), new Set(['one.ts', 'two.tsx', 'three.ts']));
});

test('the frontend and the boards have no circle of imports', () => {
  const found = circles(['src', 'dashboards'].map((dir) => path.join(root, dir)));
  assert.deepEqual(
    found.map((circle) => circle.map((file) => path.relative(root, file)).join(' -> ')),
    []
  );
});

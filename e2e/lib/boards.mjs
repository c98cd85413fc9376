// The provisioned boards, as tests look at them.
import fs from 'node:fs';
import path from 'node:path';

import { root } from './stack.mjs';

const folder = path.join(root, 'provisioning', 'dashboards');

export const boards = fs
  .readdirSync(folder)
  .filter((file) => file.endsWith('.json'))
  .map((file) => JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8')));

/** The id of a board's panel, by its title. */
export function panelId(uid, title) {
  const board = boards.find((b) => b.uid === uid);
  const panels = board?.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]) ?? [];
  const panel = panels.find((p) => p.title === title && p.type !== 'row');
  if (!panel) {
    throw new Error(`no panel "${title}" on the board ${uid}`);
  }
  return panel.id;
}

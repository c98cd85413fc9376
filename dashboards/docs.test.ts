import * as fs from 'node:fs';
import * as path from 'node:path';

import { KINDS, METRIC_FAMILIES, METRICS, P_STATE_COLORS, THREAD_STATE_COLORS } from '../src/gen/contract';
import { RULES } from './rules';

const ROOT = path.resolve(__dirname, '..');
const DOCS = path.join(ROOT, 'docs');

const pages = fs
  .readdirSync(DOCS, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.md'))
  .sort();

const read = (page: string): string => fs.readFileSync(path.join(DOCS, page), 'utf8');

describe('guides', () => {
  it.each(pages)('%s: every link leads somewhere', (page) => {
    const links = [...read(page).matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)].map((match) => match[1]!);
    const broken = links
      .filter((link) => !/^https?:/.test(link))
      .filter((link) => !fs.existsSync(path.resolve(DOCS, path.dirname(page), link)));
    expect(broken).toEqual([]);
  });

  it('explain every kind and every metric of the query model', () => {
    const text = read('queries.md');
    expect([...KINDS, ...METRICS].filter((word) => !text.includes(`\`${word}\``))).toEqual([]);
  });

  it('list every metric the agent has, and none besides', () => {
    const documented = [...read('metrics.md').matchAll(/^\| `(\w+)` \| (\w+)[^|]* \| ([^|]*)\|/gm)].map(
      ([, name, type, labels = '']) => ({
        name,
        type,
        labels: [...labels.matchAll(/`(\w+)`/g)].map((match) => match[1]),
      })
    );
    expect(METRIC_FAMILIES.length).toBeGreaterThan(10);
    expect(documented).toEqual(METRIC_FAMILIES.map(({ name, type, labels }) => ({ name, type, labels })));
  });

  it('list every alert rule', () => {
    const listed = [...read('alerts.md').matchAll(/^\| \[([\w-]+)\]/gm)].map((match) => match[1]!);
    expect(listed.sort()).toEqual(RULES.map((rule) => rule.uid).sort());
  });

  it('give the colours that are drawn', () => {
    const text = read('boards.md');
    for (const [state, colour] of [...Object.entries(P_STATE_COLORS), ...Object.entries(THREAD_STATE_COLORS)]) {
      expect(text).toContain(`| ${state} | \`${colour}\` |`);
    }
  });
});

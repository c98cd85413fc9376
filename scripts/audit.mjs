// npm run audit: known vulnerabilities of what is linked and bundled. Go's database comes as a Go module, so that it
// can be had wherever modules can; npm's is a service of the registry. What can't be asked is said to be unchecked,
// never to be clean.
import path from 'node:path';
import { pathToFileURL } from 'node:url';

import { ensureGo } from './lib/prepare.mjs';
import { endAll, output, run, say } from './lib/shell.mjs';

/** Go's database of vulnerabilities, a module of its own: one file for each, in the form of OSV. */
const database = 'golang.org/x/vulndb';

/** @returns {Promise<'clean' | 'found' | 'unchecked'>} */
async function go(env) {
  const answer = output('go', ['mod', 'download', '-json', `${database}@latest`], { env, timeout: 5 * 60_000 });
  const { Version: version, Dir: dir } = answer ? JSON.parse(answer) : {};
  if (!dir) {
    say(`Go: unchecked: the database (module ${database}) can't be fetched`);
    return 'unchecked';
  }
  say(`Go: database ${version}`);
  const db = pathToFileURL(path.join(dir, 'data', 'osv')).href;
  const tests = process.argv.includes('--tests') ? ['-test'] : [];
  const args = ['tool', '-modfile=tools/lint/go.mod', 'govulncheck', '-db', db, ...tests, './...'];
  const r = await run('go', args, { env, onLine: (line) => say(`  ${line}`), timeout: 40 * 60_000 });
  // 3: something is called that is vulnerable (govulncheck's documentation, "Exit codes").
  return r.code === 0 ? 'clean' : r.code === 3 ? 'found' : 'unchecked';
}

/** @returns {Promise<'clean' | 'found' | 'unchecked'>} */
async function npm() {
  const lines = [];
  await run('npm', ['audit', '--omit=dev', '--json'], {
    onLine: (line, stream) => stream === 'stdout' && lines.push(line),
    timeout: 5 * 60_000,
  });
  let report;
  try {
    report = JSON.parse(lines.join('\n'));
  } catch {
    report = {};
  }
  const counts = report.metadata?.vulnerabilities;
  if (!counts) {
    say(
      'npm: unchecked: the registry does not answer questions about vulnerabilities ' +
        `(${report.error?.summary || report.message || 'no report'})`
    );
    return 'unchecked';
  }
  for (const [name, v] of Object.entries(report.vulnerabilities ?? {})) {
    say(`  ${name} ${v.range}: ${v.severity}`);
  }
  say(`npm: ${counts.total} known vulnerabilities in what is bundled`);
  return counts.total ? 'found' : 'clean';
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    endAll('SIGKILL');
    process.exit(130);
  });
}
const results = { go: await go({ ...(await ensureGo()), CGO_ENABLED: '0' }), npm: await npm() };
say(`\nGo: ${results.go}; npm: ${results.npm}. docs/security.md says what is made of findings.`);
const all = Object.values(results);
process.exit(all.includes('found') ? 1 : all.includes('unchecked') ? 2 : 0);

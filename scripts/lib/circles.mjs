// Circles of imports between source files.
import fs from 'node:fs';
import path from 'node:path';

import ts from 'typescript';

/** The TypeScript files below a folder, by their paths. */
function sources(dir) {
  return fs
    .readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.tsx?$/.test(name))
    .map((name) => path.join(dir, name));
}

/** The files among the known ones that a file imports, for their values or for their types alone. */
function importsOf(file, known) {
  const { importedFiles } = ts.preProcessFile(fs.readFileSync(file, 'utf8'), true, true);
  return importedFiles
    .map(({ fileName }) => fileName)
    .filter((name) => name.startsWith('.'))
    .map((name) => path.resolve(path.dirname(file), name))
    .flatMap((name) => [name, `${name}.ts`, `${name}.tsx`, path.join(name, 'index.ts')])
    .filter((name) => known.has(name));
}

/**
 * The circles of imports between the files of some folders, each as the list of its files; imports of types count.
 *
 * @param {string[]} dirs
 * @returns {string[][]}
 */
export function circles(dirs) {
  const files = new Set(dirs.flatMap((dir) => sources(path.resolve(dir))));
  const done = new Set();
  const way = [];
  const found = [];
  const visit = (file) => {
    const at = way.indexOf(file);
    if (at >= 0) {
      found.push([...way.slice(at), file]);
      return;
    }
    if (done.has(file)) {
      return;
    }
    way.push(file);
    importsOf(file, files).forEach(visit);
    way.pop();
    done.add(file);
  };
  files.forEach(visit);
  return found;
}

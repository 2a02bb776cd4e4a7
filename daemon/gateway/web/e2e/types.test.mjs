// The page's sources pass the TypeScript compiler, which the bundler does not ask.
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

test('the sources are well typed', () => {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const tsc = path.join(path.dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');
  execFileSync(process.execPath, [tsc, '-p', path.join(here, '../app')], { stdio: 'inherit' });
});

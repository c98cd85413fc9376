import { create } from '@bufbuild/protobuf';

import { TargetSchema } from '../gen/pscope/v1/scope_pb';
import { isQuick } from './linear';
import { matcher } from './selector';

describe('isQuick', () => {
  it.each([
    'server',
    '.*',
    '.*api.*',
    'server-[0-9]+',
    '(server-0|server-1|web)',
    '(?:a)|(?:b)',
    'a\\.b\\*c',
    '[(*+?{]x',
    '[\\]*]+',
    'x{3}',
    'a*?b',
  ])('lets %s be matched in the browser', (expression) => {
    expect(isQuick(expression)).toBe(true);
  });

  it.each([
    '(a+)+b',
    '(a*)*b',
    '(?:a|a)*b',
    '(a|ab)(c|bcd)+',
    '(a?){30}a{30}',
    'a?a?a?aaa',
    '.*.*.*x',
    'a*a*a*b',
    '(.*|x)(.*|x)(.*|x)y',
    '(a)\\1',
    '(?<n>a)\\k<n>',
    '(?=a)a',
    '(?!b)a',
  ])('leaves %s to the backend', (expression) => {
    expect(isQuick(expression)).toBe(false);
  });

  it('leaves a very long one to the backend', () => {
    expect(isQuick('x'.repeat(20_000))).toBe(false);
  });

  it('bounds the time of what it lets pass', () => {
    for (const expression of ['.*.*', 'a*a*', '[a-z]*[a-z]*', '(a|a)(a|a)a*a*', 'a*(?:a|aa)a*']) {
      expect(isQuick(expression)).toBe(true);
      const begun = performance.now();
      new RegExp(`^(?:${expression})$`, 's').test('a'.repeat(256) + '!');
      expect(performance.now() - begun).toBeLessThan(500);
    }
  });
});

describe('matcher', () => {
  it('leaves what would hang the browser to the backend', () => {
    expect(matcher({ target: { process: '(a+)+b' } })).toBeUndefined();
    expect(matcher({ target: { pod: '(?i)(x+x+)+y' } })).toBeUndefined();
  });

  it('matches ordinary expressions itself', () => {
    const found = matcher({ target: { process: '(?i)SERVER-[0-9]+' } });
    expect(found?.target(create(TargetSchema, { process: 'server-12' }))).toBe(true);
    expect(found?.target(create(TargetSchema, { process: 'server-x' }))).toBe(false);
  });
});

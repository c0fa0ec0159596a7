import assert from 'node:assert/strict';
import test from 'node:test';

import { classify, lifecycle } from './plugin.js';

test('the label whose words are used most comes first', () => {
  lifecycle.init('{"labels":{"code":["rust","bug"],"food":["cake"]}}');
  const segment = { id: 0, origin: 'user', path: '', text: 'A bug in Rust eats my cake' };
  const { labels } = classify.classify({}, [segment]);
  assert.deepEqual(labels.map((label) => label.name), ['code', 'food']);
});

test('what goes wrong is told with its place', () => {
  assert.throws(() => classify.classify({}, [null]), ({ tag, val }) => {
    assert.equal(tag, 'internal');
    return /^TypeError: .* at /s.test(val);
  });
  assert.throws(() => lifecycle.init('{'), (error) => /^SyntaxError: /.test(error));
});

// The exports are plain functions: no WebAssembly is needed to test them.
import assert from 'node:assert/strict';
import test from 'node:test';

import { classify, lifecycle } from './plugin.js';

const top = (text) => classify.classify({}, [{ id: 0, origin: 'user', path: '', text }]).labels[0].name;

test('languages are told by their script and their words', () => {
  lifecycle.init('{}');
  const cases = {
    'What is the capital of France?': 'en',
    'Wie ist das Wetter, und was kostet die Karte?': 'de',
    'Comment est le temps dans le sud et pour qui?': 'fr',
    '¿Qué es lo que se come en el sur?': 'es',
    'Come sono le strade di Roma, e che cosa non va?': 'it',
    'Как дела?': 'ru',
    '日本語で書いてください': 'ja',
    '你好吗': 'zh',
    '12345': 'unknown',
    '': 'unknown',
  };
  for (const [text, expected] of Object.entries(cases)) assert.equal(top(text), expected, text);
});

test('only what the user said counts', () => {
  lifecycle.init('{}');
  const said = (origin, text) => ({ id: 0, origin, path: '', text });
  const { labels } = classify.classify({}, [said('system', 'the and of to in'), said('user', 'der die das und ist')]);
  assert.deepEqual(labels, [{ name: 'de', score: 1 }]);
});

test('a language can be added, and a wrong word is refused', () => {
  lifecycle.init('{"languages":{"nl":["het","een","niet","van"]},"fallback":"en"}');
  assert.equal(top('het is niet van een vriend'), 'nl');
  assert.equal(top('42'), 'en');
  try {
    lifecycle.init('{"langs":{}}');
    assert.fail('it was taken');
  } catch (error) {
    assert.match(String(error), /unknown field langs/);
  }
});

test('what goes wrong is told with its place', () => {
  assert.throws(() => classify.classify({}, [null]), ({ tag, val }) => {
    assert.equal(tag, 'internal');
    return /^TypeError: .* at /s.test(val);
  });
  assert.throws(() => lifecycle.init('{'), (error) => /^SyntaxError: /.test(error));
});

// A classifier in JavaScript: says in which language a request is written, by its script and its commonest words.
// What is left in the module's variables after `init` is the state in which each call finds them.

const WORDS = {
  de: ['der', 'die', 'das', 'und', 'ist', 'nicht', 'ich', 'ein', 'eine', 'mit', 'für', 'wie', 'zu', 'auf', 'bitte'],
  en: ['the', 'and', 'is', 'of', 'to', 'in', 'that', 'it', 'you', 'for', 'what', 'how', 'please', 'with', 'a'],
  es: ['el', 'los', 'las', 'que', 'es', 'y', 'en', 'una', 'por', 'con', 'para', 'cómo', 'del', 'se', 'qué'],
  fr: ['le', 'les', 'et', 'est', 'une', 'des', 'que', 'dans', 'pour', 'vous', 'je', 'pas', 'sur', 'comment', 'du'],
  it: ['il', 'di', 'che', 'è', 'e', 'un', 'per', 'una', 'sono', 'con', 'come', 'della', 'non', 'mi', 'gli'],
};

const SCRIPTS = { ar: /\p{Script=Arabic}/gu, el: /\p{Script=Greek}/gu, he: /\p{Script=Hebrew}/gu, ja: /[\p{Script=Hiragana}\p{Script=Katakana}]/gu, ko: /\p{Script=Hangul}/gu, ru: /\p{Script=Cyrillic}/gu, zh: /\p{Script=Han}/gu };

let settings = { fallback: 'unknown', least_words: 2 };
let words = WORDS;

// What is thrown is told to the gateway, with its place: the engine itself only gives up (a trap), and says nothing of it.
const told = (call, as = (val) => ({ tag: 'internal', val })) => (...given) => {
  try {
    return call(...given);
  } catch (error) {
    if (typeof error === 'string' || error?.tag) throw error;
    throw as(`${error} ${error?.stack ?? ''}`.trim());
  }
};

export const lifecycle = {
  describe() {
    return {
      name: 'language-classifier',
      version: '0.1.0',
      description: 'Says in which language a request is written',
      needs: { segments: true, headers: false, metadata: false, candidates: false },
    };
  },

  // An error that is thrown is the `err` of WIT's result: it rejects the load.
  init: told((text) => {
    const config = JSON.parse(text || '{}') ?? {};
    const unknown = Object.keys(config).filter((key) => !['languages', 'fallback', 'least_words'].includes(key));
    if (unknown.length) throw `config: unknown field ${unknown.join(', ')}: expected languages, fallback, least_words`;
    settings = { fallback: config.fallback ?? 'unknown', least_words: config.least_words ?? 2 };
    words = Object.fromEntries(
      Object.entries({ ...WORDS, ...config.languages }).map(([language, list]) => [language, new Set(list)]),
    );
  }, String),
};

export const classify = {
  classify: told((_context, segments) => {
    const text = segments.filter((segment) => segment.origin === 'user').map((segment) => segment.text).join('\n');
    const labels = [...byScript(text), ...byWords(text)].filter((label) => label.score > 0);
    labels.sort((a, b) => b.score - a.score);
    if (!labels.length) labels.push({ name: settings.fallback, score: 1 });
    return { labels, attributes: [['characters', String(text.length)]] };
  }),
};

function byScript(text) {
  const letters = (text.match(/\p{L}/gu) ?? []).length || 1;
  const shares = Object.entries(SCRIPTS).map(([name, script]) => {
    return { name, score: (text.match(script) ?? []).length / letters };
  });
  // Japanese is written with Chinese characters too.
  const japanese = shares.find((label) => label.name === 'ja');
  const chinese = shares.find((label) => label.name === 'zh');
  if (japanese.score > 0) [japanese.score, chinese.score] = [japanese.score + chinese.score, 0];
  return shares;
}

function byWords(text) {
  const all = text.toLowerCase().match(/\p{L}+/gu) ?? [];
  const counts = Object.entries(words).map(([name, list]) => {
    const known = list instanceof Set ? list : new Set(list);
    return { name, score: all.filter((word) => known.has(word)).length };
  });
  const sum = counts.reduce((total, label) => total + label.score, 0);
  if (sum < settings.least_words) return [];
  return counts.map(({ name, score }) => ({ name, score: score / sum }));
}

// A classifier: the label whose words a request uses most.

let labels = {};

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
      name: 'plugin-name',
      version: '0.1.0',
      description: 'Says what a request is about, by the words that it uses',
      needs: { segments: true, headers: false, metadata: false, candidates: false },
    };
  },

  // Runs once, when the file is loaded, with the plugin's `config:` block as JSON text. What is thrown rejects the load.
  init: told((config) => {
    labels = JSON.parse(config || '{}').labels ?? {};
    if (!Object.keys(labels).length) throw 'labels: there are none';
  }, String),
};

export const classify = {
  classify: told((_context, segments) => {
    const words = segments.flatMap((segment) => segment.text.toLowerCase().split(/\s+/));
    const count = (known) => words.filter((word) => known.includes(word)).length;
    const counts = Object.entries(labels).map(([name, known]) => ({ name, score: count(known) }));
    const all = counts.reduce((sum, label) => sum + label.score, 0);
    const found = counts.filter((label) => label.score > 0).map(({ name, score }) => ({ name, score: score / all }));
    return { labels: found.sort((a, b) => b.score - a.score), attributes: [] };
  }),
};

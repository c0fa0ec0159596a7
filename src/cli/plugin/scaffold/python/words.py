"""Counts words: plain Python, tested without WebAssembly."""


def scores(labels, texts):
    """The share of each label in the known words, best first."""
    words = [word for text in texts for word in text.lower().split()]
    counts = {label: sum(word in known for word in words) for label, known in labels.items()}
    total = sum(counts.values())
    found = [(label, count / total) for label, count in counts.items() if count]
    return sorted(found, key=lambda pair: -pair[1])

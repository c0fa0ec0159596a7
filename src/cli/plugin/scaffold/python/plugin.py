"""A classifier: the label whose words a request uses most."""

import json

import wit_world
from componentize_py_types import Err
from wit_world.exports import classify, lifecycle
from words import scores

LABELS = {}


class Lifecycle(wit_world.exports.Lifecycle):
    def describe(self):
        needs = lifecycle.Needs.SEGMENTS
        return lifecycle.Manifest("plugin-name", "0.1.0", "Says what a request is about, by its words", needs)

    def init(self, config):
        """Runs once, when the file is loaded, with the plugin's `config:` block as JSON text."""
        global LABELS
        LABELS = json.loads(config or "{}").get("labels") or {}
        if not LABELS:
            raise Err("labels: there are none")


class Classify(wit_world.exports.Classify):
    def classify(self, ctx, segments):
        found = scores(LABELS, [segment.text for segment in segments])
        return classify.Classification([classify.Label(name, score) for name, score in found], [])

import unittest

from words import scores


class Words(unittest.TestCase):
    def test_the_label_whose_words_are_used_most_comes_first(self):
        labels = {"code": ["rust", "bug"], "food": ["cake"]}
        found = scores(labels, ["A bug in Rust eats my cake"])
        self.assertEqual([label for label, _ in found], ["code", "food"])
        self.assertEqual(scores(labels, ["hello"]), [])

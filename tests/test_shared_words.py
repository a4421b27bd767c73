"""The words that two texts share: in any script, the telling ones first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import whence
from whence.shared_words import words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's a FINE film, isn't it?", ["it's", "a", "fine", "film", "isn't", "it"]),
        ("2 x 3_000 — done…", ["2", "x", "3", "000", "done"]),
        ("Straße, naïve Ça", ["straße", "naïve", "ça"]),
        ("e\u0301tude", ["e\u0301tude"]),  # a letter and its mark
        ("很好看 film", ["很", "好", "看", "film"]),
        ("हिन्दी में।", ["हिन्दी", "में"]),
        ("שָׁלוֹם мир", ["שָׁלוֹם", "мир"]),
        ("👍🏽 \u200b <b>bold</b>", ["b", "bold", "b"]),
        ("", []),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


def test_rare_words_come_first_and_common_ones_not_at_all():
    texts = ["the plot"] * 30 + ["the dull plot"] * 3 + ["a tedious, dull mess"] + ["the cast"] * 66
    shared = whence.SharedWords(texts)
    assert shared("The tedious plot, so dull: a mess!", "a tedious, dull mess") == ["mess", "tedious", "dull"]
    assert shared("the plot", "the plot") == []  # of a third of all texts
    assert whence.SharedWords(texts, common=0.5)("the plot", "the plot") == ["plot"]
    assert shared("unheard of", "Unheard-of things") == ["unheard"]
    assert whence.SharedWords(texts, common=1.0)("unheard of", "Unheard-of things") == ["of", "unheard"]


@given(st.lists(st.text(max_size=40), min_size=1, max_size=8), st.text(max_size=80), st.text(max_size=80))
def test_shared_words_are_in_both(texts, first, second):
    shared = whence.SharedWords(texts, common=1.0)
    found = shared(first, second)
    assert found == shared(second, first)
    assert len(found) == len(set(found))
    assert set(found) == set(words_of(first)) & set(words_of(second))

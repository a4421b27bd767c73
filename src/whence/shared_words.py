"""Which words two texts share: what a reader looks for in a text that is said to explain a prediction."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from whence.arguments import is_number
from whence.errors import WhenceError

__all__ = ["SharedWords", "words_of"]

# Runs of letters, digits and their marks; scripts that are written without spaces character by character. The report's
# cards.js marks words by the same rule.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
_LETTER = rf"(?:[{_MARKS}]|[^\W_{_UNSPACED}])"
_WORD = re.compile(rf"[{_UNSPACED}]|{_LETTER}(?:{_LETTER}|['’](?=[^\W_]))*")
_SAMPLE = 50_000  # texts that tell how common a word is


def words_of(text: str) -> list[str]:
    """The words of a text in its order, in lower case; numbers are words, punctuation is not."""
    return _WORD.findall(text.lower())


class SharedWords:
    """The words that two texts share, the rarest among the training texts first.

    Words that more than a share of all training texts have tell nothing and are left out, which does in any language much of what
    a list of stop words does in one, and leaves out what a collection is all about ("film" among film reviews). English
    stop words are left out too, as few short texts have many of them.

    Args:
        texts: of training instances, str [N].
        common: that share, 0 to 1. A word of two texts is never common. With 1, no word is left out.

    >>> shared = SharedWords(["a dull plot", "a dull film", "a fine film", "a warm, fine cast"], common=0.5)
    >>> shared("The plot: a dull one.", "a dull plot")
    ['plot', 'dull']
    """

    def __init__(self, texts: Sequence[str] | np.ndarray, *, common: float = 0.05) -> None:
        if isinstance(texts, str | bytes) or not isinstance(texts, Sequence | np.ndarray):
            raise WhenceError(
                "an argument of the wrong type", where="texts", got=f"{texts!r:.60}", expected="a list of texts"
            )
        if not is_number(common) or not 0 <= common <= 1:
            raise WhenceError(
                "an option out of range", where="common", got=repr(common), expected="a number from 0 to 1"
            )
        chosen = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), _SAMPLE)).astype(np.int64))
        self._texts_with: Counter[str] = Counter()
        for row in chosen.tolist():
            self._texts_with.update(set(words_of(str(texts[row]))))
        self._most = max(2.0, common * len(chosen))
        self._stop = ENGLISH_STOP_WORDS if common < 1 else frozenset()

    def __call__(self, first: str, second: str) -> list[str]:
        """Each word that both texts have, once."""
        return self.rarest_first(set(words_of(first)) & set(words_of(second)))

    def rarest_first(self, words: Iterable[str]) -> list[str]:
        """Those that are not common, by how many training texts have them, then by the alphabet."""
        telling = (word for word in set(words) if self._texts_with[word] <= self._most and word not in self._stop)
        return sorted(telling, key=lambda word: (self._texts_with[word], word))

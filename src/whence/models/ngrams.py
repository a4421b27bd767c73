"""Text without any download: hashed word n-grams, weighted by TF-IDF, into a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy.sparse
import torch
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from torch import nn

from whence.data import Dataset
from whence.data.inputs import NgramInputs
from whence.errors import WhenceError
from whence.models.mlp import hidden_layers, initialize

__all__ = ["NgramClassifier", "NgramEncoder"]

_BUCKETS = 2**20
_MOST_COLUMNS = 2**15


class NgramEncoder:
    """TF-IDF weights of words and word pairs: [N, V], V at most 32,768.

    Words are hashed (MurmurHash3, 2^20 buckets), so no vocabulary is kept. Columns and weights are those of the training
    split: n-grams in at least two of its texts, the most frequent first. Term counts are damped (1 + log tf), rows have
    length 1.

    Args:
        data: with texts; its "train" split counts, or all of it when there is none.

    Raises:
        WhenceError: the data have no texts, or hardly any word occurs twice.
    """

    def __init__(self, data: Dataset) -> None:
        self._hashing = HashingVectorizer(
            n_features=_BUCKETS, ngram_range=(1, 2), norm=None, alternate_sign=False, dtype=np.float32
        )
        train = data.split("train") if data.has_split("train") else data
        counts = self._counts(train)
        seen = np.bincount(counts.indices, minlength=_BUCKETS)  # rows hold each n-gram once
        columns = np.flatnonzero(seen >= 2)
        if len(columns) < 2:
            raise WhenceError("no words to learn from", where="the training texts",
                              got=f"{len(columns)} n-grams in two or more texts", mend="Check the text column.")  # fmt: skip
        self.columns = np.sort(columns[np.argsort(-seen[columns], kind="stable")[:_MOST_COLUMNS]])
        self._weighting = TfidfTransformer(sublinear_tf=True).fit(counts[:, self.columns])

    def encode(self, data: Dataset) -> Dataset:
        """The dataset with its texts as ``NgramInputs``."""
        weights = self._weighting.transform(self._counts(data)[:, self.columns]).astype(np.float32).tocsr()
        weights.sort_indices()
        return replace(data, inputs=NgramInputs(weights))

    def _counts(self, data: Dataset) -> scipy.sparse.csr_matrix:
        if data.texts is None:
            raise WhenceError("no texts to encode", where="the data", mend="Name the column of texts with --text.")
        return self._hashing.transform([str(text) for text in data.texts])


class NgramClassifier(nn.Module):
    """A weighted bag of n-gram embeddings with ReLU, further hidden layers, a linear head.

    Args:
        columns: V, how many n-grams there are.
        hidden: widths of the hidden layers; the first is the embedding's.
        outputs: C.
    """

    def __init__(self, columns: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(columns, hidden[0], mode="sum")
        self.bias = nn.Parameter(torch.zeros(hidden[0]))
        self.body = nn.Sequential()
        self.body.add_module("relu0", nn.ReLU())
        for name, layer in hidden_layers(hidden).named_children():
            self.body.add_module(name, layer)
        self.head = nn.Linear(hidden[-1], outputs)
        initialize(self)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def forward(self, columns: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Columns int64 [B, L] and their weights [B, L] → [B, C]."""
        bag = self.embedding(columns, per_sample_weights=weights) + self.bias  # (B, H)
        logits: torch.Tensor = self.head(self.body(bag))
        return logits

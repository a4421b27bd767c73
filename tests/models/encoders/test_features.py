"""What an encoder reads: tokens, cut texts, pairs, and features that are computed once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import whence
from tests.models.encoders.tiny import save_encoder, write_reviews
from whence.models import encoders
from whence.models.encoders.features import featured


def test_pairs_of_sentences(tmp_path, folder):
    data = whence.load(
        write_reviews(tmp_path / "p.tsv", 40, pairs=True), text="text", text_pair="second", label="label"
    )
    first, second = data.inputs.texts[0], data.inputs.pairs[0]
    assert data.texts[0] == f"{first} ‖ {second}"
    _, encoded = whence.prepare(data, str(folder))
    (row,) = encoded.inputs.gather(np.array([0]))["input_ids"]
    (kinds,) = encoded.inputs.gather(np.array([0]))["token_type_ids"]
    words = encoders.folder.Encoder.find(str(folder)).tokenizer.convert_ids_to_tokens(row.tolist())
    assert words == ["[CLS]", *first.split(), "[SEP]", *second.split(), "[SEP]"]
    assert kinds.tolist() == [0] * (len(first.split()) + 2) + [1] * (len(second.split()) + 1)
    model, encoded = whence.prepare(data, "ngrams:8")  # n-grams read both
    assert whence.fit(model, encoded, epochs=1, device="cpu").history


def test_long_texts_are_cut_and_that_is_said(folder, reviews):
    _, data = whence.prepare(reviews, str(folder), max_length=7)
    assert data.inputs.lengths.tolist() == [7] * 120
    (note,) = data.notes
    assert note == "120 of 120 texts are longer than 7 tokens; what comes after is not read"
    _, data = whence.prepare(reviews, str(folder), max_length=8)
    assert data.notes == ()
    long = whence.Dataset(reviews.ids[:2], whence.data.inputs.TextInputs(np.array(["the film " * 100] * 2, dtype=object)),
                          reviews.targets[:2], reviews.task, texts=reviews.texts[:2])  # fmt: skip
    _, data = whence.prepare(long, str(folder), masked="head")
    assert data.inputs.lengths.tolist() == [40, 40]  # what the encoder has positions for


def test_features_are_computed_once(folder, reviews, cache, monkeypatch):
    model, data = whence.prepare(reviews, str(folder), masked="frozen")
    (file,) = cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(encoders.folder.Encoder, "load", lambda self: pytest.fail("the encoder was run again"))
        _, again = whence.prepare(reviews, str(folder), masked="frozen", seed=1)
    assert again.fingerprint() == data.fingerprint()
    tokens = whence.prepare(reviews, str(folder), masked="head")
    rows = np.array([5, 2])
    with torch.no_grad():
        given = tokens[1].inputs.gather(rows)
        states = tokens[0].base(**given).last_hidden_state
        mask = given["attention_mask"][..., None]
        torch.testing.assert_close(data.inputs.gather(rows), (states * mask).sum(1) / mask.sum(1), atol=1e-5, rtol=1e-4)
    assert torch.equal(data.select(rows).inputs.gather(np.array([0, 1])), data.inputs.gather(rows))
    file.write_bytes(file.read_bytes()[:-100])  # a damaged file is made again
    _, mended = whence.prepare(reviews, str(folder), masked="frozen")
    assert torch.equal(mended.inputs.gather(rows), data.inputs.gather(rows))
    other = save_encoder(cache / "other", intermediate_size=32)
    whence.prepare(reviews, str(other), masked="frozen")
    assert len(list(cache.glob("*.npy"))) == 2  # another encoder, other features


def test_data_with_features_are_known_by_their_tokens(folder, reviews):
    encoder = encoders.folder.Encoder.find(str(folder))
    _, tokens = whence.prepare(reviews, str(folder), masked="head")
    data = featured(encoder, tokens)
    data.inputs.array = np.asarray(data.inputs.array) + 1e-6  # as another machine rounds
    assert data.fingerprint() == featured(encoder, tokens).fingerprint()
    assert data.fingerprint() != tokens.fingerprint()

"""Texts, or pairs of them, as the token numbers of an encoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from whence.data import Dataset
from whence.data.inputs import TextInputs
from whence.data.tokens import TokenInputs
from whence.errors import WhenceError
from whence.models.encoders.folder import Encoder, quiet

__all__ = ["tokenized"]

_AT_ONCE = 1024


def tokenized(encoder: Encoder, data: Dataset, max_length: int) -> Dataset:
    """The dataset with ``TokenInputs``; a note says how many texts were cut.

    Args:
        data: with texts that are not encoded yet.
        max_length: tokens of a text; of a pair, of both together, the longer one being cut first.

    Raises:
        WhenceError: fewer tokens than a text needs.
    """
    assert isinstance(data.inputs, TextInputs)
    most, tokenizer = min(max_length, encoder.longest), encoder.tokenizer
    pair = data.inputs.pairs is not None
    if most <= tokenizer.num_special_tokens_to_add(pair=pair):
        raise WhenceError("no room for a text", where="--max-length", got=max_length,
                          expected=f"more than {tokenizer.num_special_tokens_to_add(pair=pair)} tokens")  # fmt: skip
    tokens, kinds, cut = [], [], 0
    with_kinds = "token_type_ids" in tokenizer.model_input_names
    for start in range(0, len(data), _AT_ONCE):
        texts = _strings(data.inputs.texts[start : start + _AT_ONCE])
        pairs = None if data.inputs.pairs is None else _strings(data.inputs.pairs[start : start + _AT_ONCE])
        with quiet():
            found = tokenizer(
                texts, pairs, truncation=True, max_length=most, return_token_type_ids=with_kinds,
                return_attention_mask=False,
            )  # fmt: skip
            full = [row for row, ids in enumerate(found["input_ids"]) if len(ids) >= most]
            whole = tokenizer([texts[row] for row in full], None if pairs is None else [pairs[row] for row in full],
                              return_attention_mask=False) if full else {"input_ids": []}  # fmt: skip
        tokens += [np.array(ids, np.int32) for ids in found["input_ids"]]
        kinds += [np.array(ids, np.int8) for ids in found["token_type_ids"]] if with_kinds else []
        cut += sum(len(ids) > most for ids in whole["input_ids"])
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in tokens])]).astype(np.int64)
    inputs = TokenInputs(
        np.concatenate(tokens), starts, np.concatenate(kinds) if with_kinds else None, int(tokenizer.pad_token_id)
    )
    note = (
        (f"{cut:,} of {len(data):,} texts are longer than {most} tokens; what comes after is not read",) if cut else ()
    )
    return replace(data, inputs=inputs, notes=(*data.notes, *note))


def _strings(texts: np.ndarray) -> list[str]:
    """Texts as UTF-8 can write them, which tokenizers ask for."""
    return [str(text).encode("utf-8", "replace").decode("utf-8") for text in texts]

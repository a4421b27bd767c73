"""The description of a ready-made model: what run.json holds of it, and what it means for a dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from whence.data import Dataset
from whence.data.inputs import ArrayInputs
from whence.errors import WhenceError
from whence.masks import Scheme
from whence.models.encoders.folder import is_encoder_name

__all__ = ["ModelSpec"]

_DEFAULT_WIDTHS = {
    "mlp": (512, 512),
    "ngrams": (256,),
    "conv": (16, 32, 256),
    "vgg": (32, 64, 128, 256),
    "vgg16": (512, 512),
    "resnet18": (64,),
}
_NUMBERS_OF_WIDTHS = {"conv": range(2, 9), "vgg": range(2, 9), "resnet18": range(1, 2)}  # 1 or more of the others
_MOST_WIDTHS = 1000
_PICTURE_MODELS = ("conv", "vgg", "vgg16", "resnet18")


@dataclass(frozen=True)
class ModelSpec:
    """A ready-made model: what run.json holds of it.

    Attributes:
        name: a kind, with widths after a colon if they are to be others: ``mlp:512,512`` (hidden layers), ``ngrams:256``;
            for pictures also ``conv:16,32,256`` and ``vgg:32,64,128,256`` (channels of each convolution, or of each block of two,
            then a hidden layer), ``vgg16:512,512`` (hidden layers), ``resnet18:64`` (channels of the first stage). For texts,
            an encoder of Hugging Face transformers: a folder, or a name on the hub. "auto": an MLP for features and pictures,
            n-grams for texts. For texts, "mlp" means n-grams.
        masked: which hidden layers have turn-over dropout: "last", "all", or a glob over module names; of an encoder "updates",
            "adapter", "lora", "frozen", "head" or "dropouts" (see ``whence.models.encoders.placements``). "auto": "last", or
            "updates".
        keep: share of units that an instance keeps. None until the model is built: then its placement's, ½ as a rule.
        seed, scheme: of the masks.
        max_length: tokens of a text that an encoder reads.
        encoder: the fingerprint of an encoder's files, once it was found.
    """

    name: str = "auto"
    masked: str = "auto"
    keep: float | None = None
    seed: int = 0
    scheme: Scheme = "independent"
    max_length: int = 256
    encoder: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Any) -> ModelSpec:
        """The spec of a model that was built, as ``to_json`` wrote it."""
        known = cls(keep=0.5).to_json()
        if not isinstance(record, dict) or {name: type(value) for name, value in record.items()} != {
            n: type(v) for n, v in known.items()
        }:
            raise WhenceError(
                "a damaged description of a model", where="the run", got=repr(record)[:60], expected=", ".join(known)
            )
        return cls(**record)

    def parse(self, data: Dataset) -> tuple[str, tuple[int, ...]]:
        """The kind ("mlp", "ngrams", "conv", "vgg", "vgg16", "resnet18" or "encoder") and its widths for a dataset.

        Raises:
            WhenceError: an unknown kind, widths that are not positive integers, or a kind that does not fit the data.
        """
        kind, _, listed = self.name.partition(":")
        is_text = data.texts is not None
        if kind in ("auto", "mlp"):
            kind = "ngrams" if is_text else "mlp"
        if kind not in _DEFAULT_WIDTHS and is_encoder_name(self.name):
            if not is_text:
                raise WhenceError("a model that does not fit the data", where="--model", got=repr(self.name),
                                  expected="texts for an encoder", mend="Name the column of texts with --text.")  # fmt: skip
            return "encoder", ()
        if kind not in _DEFAULT_WIDTHS:
            raise WhenceError("unknown model", where="--model", got=repr(self.name),
                              expected="mlp:512,512, ngrams:256, conv:16,32,256, vgg:32,64,128,256, vgg16:512,512 or "
                              "resnet18:64 (widths are yours), or for texts the folder of an encoder or its name on the "
                              "Hugging Face hub")  # fmt: skip
        if kind in _PICTURE_MODELS:
            fits = isinstance(data.inputs, ArrayInputs) and data.inputs.is_image
        else:
            fits = is_text == (kind == "ngrams")
        if not fits:
            mend = "Name the column of pictures with --image." if kind in _PICTURE_MODELS else ""
            raise WhenceError(
                "a model that does not fit the data",
                where="--model",
                got=repr(self.name),
                mend=mend,
                expected="ngrams for texts, mlp for features; mlp, conv, vgg, vgg16, resnet18 for pictures",
            )
        try:
            widths = tuple(int(width) for width in listed.split(",")) if listed else _DEFAULT_WIDTHS[kind]
        except ValueError:
            widths = (0,)
        if (
            not 1 <= min(widths) <= max(widths) < 2**31
            or len(widths) > _MOST_WIDTHS
            or len(widths) not in _NUMBERS_OF_WIDTHS.get(kind, range(1, len(widths) + 1))
        ):
            default = ",".join(map(str, _DEFAULT_WIDTHS[kind]))
            raise WhenceError("widths that make no model", where="--model", got=repr(self.name),
                              expected=f"positive integers, such as {kind}:{default} (conv and vgg take at least two, "
                              "resnet18 one)")  # fmt: skip
        return kind, widths

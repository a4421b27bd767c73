"""An encoder on disk: found, checked and loaded by transformers, without running code or pickles of strangers."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from whence.errors import WhenceError

__all__ = ["Encoder", "is_encoder_name", "quiet"]

_FILES = ("config.json", "*.safetensors", "model.safetensors.index.json", "tokenizer*.json", "vocab.*", "merges.txt",
          "special_tokens_map.json", "added_tokens.json", "*.model")  # fmt: skip
_WORDS = ("tokenizer.json", "vocab.*", "*.model")  # without them, a tokenizer of no words is made without complaint
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_UNKNOWN_LENGTH = 10**6  # tokenizers that know no maximum say some huge number


def is_encoder_name(name: str) -> bool:
    """Whether a name of a model can be that of an encoder: a folder, or a name on the Hugging Face hub."""
    return "/" in name or "\\" in name or "-" in name or Path(name).expanduser().is_dir()


@dataclass(frozen=True)
class Encoder:
    """A folder with an encoder's configuration, weights and tokenizer.

    Attributes:
        name: an absolute path, or a name on the hub.
        folder: where its files are.
    """

    name: str
    folder: Path

    @classmethod
    def find(cls, name: str) -> Encoder:
        """The encoder of a folder, or of a name on the Hugging Face hub, whose files are downloaded once.

        Raises:
            WhenceError: transformers is not installed; there is no such folder or name; the weights are not safetensors.
        """
        _transformers()
        path = Path(name).expanduser()
        found = cls(path.resolve().as_posix(), path.resolve()) if path.is_dir() else cls(name, _from_hub(name))
        found._check()
        return found

    @cached_property
    def fingerprint(self) -> str:
        """A hash of configuration, weights and tokenizer: 32 hexadecimal digits."""
        state = hashlib.blake2b(digest_size=16)
        for path in sorted({path for pattern in _FILES for path in self.folder.glob(pattern)}):
            state.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with open(path, "rb") as file:
                while block := file.read(2**20):
                    state.update(block)
        return state.hexdigest()

    def require(self, fingerprint: str) -> None:
        """Refuse an encoder that is not the one of a run.

        Raises:
            WhenceError: the folder's files have changed.
        """
        if fingerprint and fingerprint != self.fingerprint:
            raise WhenceError("an encoder that has changed since the run", where=self.folder, got=f"fingerprint {self.fingerprint}",
                              expected=fingerprint, mend="Put its files back, or fit again.")  # fmt: skip

    @cached_property
    def config(self) -> Any:
        with self._loading("configuration"):
            return _transformers().AutoConfig.from_pretrained(
                self.folder, trust_remote_code=False, local_files_only=True
            )

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer.

        Raises:
            WhenceError: it cannot be loaded, or has no token for padding.
        """
        with self._loading("tokenizer"):
            tokenizer = _transformers().AutoTokenizer.from_pretrained(
                self.folder, trust_remote_code=False, local_files_only=True
            )
        if tokenizer.pad_token_id is None:
            raise WhenceError("a tokenizer without a padding token", where=self.folder,
                              mend="Choose an encoder, such as BERT, RoBERTa or MiniLM.")  # fmt: skip
        return tokenizer

    @property
    def longest(self) -> int:
        """How many tokens the encoder can read."""
        known = [int(self.tokenizer.model_max_length)]
        positions = getattr(self.config, "max_position_embeddings", None)
        if isinstance(positions, int) and positions > 0:
            # RoBERTa counts positions from the number of padding on.
            padding = getattr(self.config, "pad_token_id", None) or 0
            known.append(positions - (padding + 1 if padding else 0))
        longest = min(known)
        return longest if longest < _UNKNOWN_LENGTH else 512

    @property
    def width(self) -> int:
        """H, of hidden states."""
        return int(self.config.hidden_size)

    def load(self) -> nn.Module:
        """The encoder with its weights in float32, without pooling layers of its own.

        Raises:
            WhenceError: it cannot be loaded, or the file lacks some of its weights.
        """
        if getattr(self.config, "is_encoder_decoder", False):
            raise WhenceError("a model of encoder and decoder", where=self.folder, got=type(self.config).__name__,
                              expected="an encoder, such as BERT, RoBERTa or MiniLM")  # fmt: skip
        with self._loading("model"):
            base, about = _transformers().AutoModel.from_pretrained(
                self.folder, trust_remote_code=False, local_files_only=True, use_safetensors=True, dtype=torch.float32,
                output_loading_info=True,
            )  # fmt: skip
        if lacking := sorted(name for name in about["missing_keys"] if not name.startswith("pooler.")):
            raise WhenceError("weights that lack a part of the model", where=self.folder, got=f"no {lacking[0]!r}",
                              mend="Save the model again with save_pretrained.")  # fmt: skip
        if getattr(base, "pooler", None) is not None:
            base.pooler = None
        loaded: nn.Module = base
        return loaded

    def _check(self) -> None:
        if not (self.folder / "config.json").is_file():
            raise WhenceError("a folder that holds no model", where=self.folder, expected="config.json, model.safetensors and the "
                              "files of a tokenizer", mend="Write it with save_pretrained of model and tokenizer.")  # fmt: skip
        if not any(path for pattern in _WORDS for path in self.folder.glob(pattern)):
            raise WhenceError("a folder that holds no tokenizer", where=self.folder, expected=f"one of {', '.join(_WORDS)}",
                              mend="Write it with tokenizer.save_pretrained(folder).")  # fmt: skip
        if not any(self.folder.glob("*.safetensors")):
            others = [path.name for path in self.folder.glob("*.bin")]
            raise WhenceError("a model without weights as safetensors", where=self.folder, got=", ".join(others) or None,
                              expected="model.safetensors", mend="Other files can run code when they are opened, so they are not: "
                              "save it again with model.save_pretrained(folder).")  # fmt: skip

    @contextmanager
    def _loading(self, what: str) -> Iterator[None]:
        """Errors of transformers in one line, and its bars and warnings left out."""
        with quiet():
            try:
                yield
            except (
                OSError,
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
                RuntimeError,
                ImportError,
                SafetensorError,
            ) as error:
                raise WhenceError(f"a {what} that transformers cannot load", where=self.folder,
                                  got=str(error).split("\n")[0][:200], mend="Choose a BERT-like encoder, without code of its own.",
                                  ) from error  # fmt: skip


def _from_hub(name: str) -> Path:
    """The folder of a name on the hub: what was downloaded before, else downloaded now."""
    if not _HUB_NAME.fullmatch(name):
        raise WhenceError("no such folder", where="--model", got=name, expected="a folder that holds an encoder",
                          mend="Check the path, or put the folder back if it was moved.")  # fmt: skip
    from huggingface_hub import snapshot_download

    failure: Exception | None = None
    for offline in (True, False):
        try:
            folder = Path(snapshot_download(name, allow_patterns=list(_FILES), local_files_only=offline))
            if offline and not any(folder.glob("*.safetensors")):
                continue  # an unfinished download
            return folder
        except Exception as error:  # the hub's errors have no common ancestor of their own
            failure = error
    raise WhenceError("no such encoder", where="--model", got=repr(name), expected="a folder, or a name on the Hugging Face hub",
                      mend="Check the name; without a network, give the folder of a model that was saved before.",
                      ) from failure  # fmt: skip


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise WhenceError("an encoder needs transformers, which is not installed", where="--model",
                          mend="pip install 'whence[text]'.") from error  # fmt: skip
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without bars and warnings while the block lasts."""
    log = _transformers().utils.logging
    before, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.ERROR)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if bars:
            log.enable_progress_bar()

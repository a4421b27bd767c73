"""A small encoder, texts that it can learn, and a place for its features."""

from __future__ import annotations

import pytest

import whence


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    from tests.models.encoders.tiny import save_encoder  # skips where transformers is not installed

    return save_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


@pytest.fixture
def reviews(tmp_path):
    from tests.models.encoders.tiny import write_reviews

    return whence.load(write_reviews(tmp_path / "reviews.tsv"), text="text", label="label")

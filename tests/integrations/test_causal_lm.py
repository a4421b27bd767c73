"""Language models: losses of texts, and planted documents that must be found."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

from examples import causal_lm as example
from torch import nn

import whence
from whence.data.tasks import LanguageModeling, task_from_json
from whence.integrations.texts import TextLoss
from whence.quantities import loss_of, quantity_named

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers and peft warn about each other


class Bigrams(nn.Module):
    """The logits of the next token, by the token before it."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 7)

    def forward(self, input_ids, attention_mask=None):
        return SimpleNamespace(logits=self.table(input_ids))


def test_a_text_is_charged_for_its_own_tokens_alone():
    torch.manual_seed(0)
    model = TextLoss(Bigrams())
    logs = model.model.table.weight.log_softmax(1)
    tokens = torch.tensor([[1, 2, 3, 0, 0], [4, 4, 5, 6, 1]])
    given = model(tokens, attention_mask=torch.tensor([[1, 1, 1, 0, 0], [1] * 5]))
    expected = torch.stack([-(logs[1, 2] + logs[2, 3]), -(logs[4, 4] + logs[4, 5] + logs[5, 6] + logs[6, 1])])
    torch.testing.assert_close(given, torch.stack([expected, torch.tensor([2.0, 4.0])], 1))
    torch.testing.assert_close(loss_of(LanguageModeling())(given, torch.zeros(2)), expected / torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(quantity_named("text_loss", LanguageModeling())(given, torch.zeros(2)), expected)
    labelled = model(tokens, labels=torch.tensor([[-100, -100, 3, -100, -100], [-100] * 5]))
    torch.testing.assert_close(
        labelled, torch.stack([torch.stack([-logs[2, 3], torch.zeros(())]), torch.tensor([1.0, 1.0])], 1)
    )


def test_the_task_is_written_and_read():
    assert task_from_json(LanguageModeling().to_json()) == LanguageModeling()
    with pytest.raises(whence.WhenceError, match="unknown quantity.*accuracy.*loss, text_loss for language_modeling"):
        quantity_named("accuracy", LanguageModeling())


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
def test_a_repeated_document_is_found(seed, tmp_path):
    """A sentence of each of 24 documents: chance puts its document first once in 24 times."""
    run = example.main(
        ["--pretraining-steps", "120", "--epochs", "5", "--seed", str(seed), "--out", str(tmp_path / "run")]
    )
    test = run.dataset("test")
    for method in ("turnover", "first_order", "kronecker"):
        scores = whence.influence(run, "test", method=method, level="group")
        assert scores.shape == (24, 24)
        assert scores.rows.names == list(test.group_names)
        matrix = np.asarray(scores)
        rank = (matrix > matrix.diagonal()).sum(0)
        assert np.mean(rank == 0) > 0.6 and rank.mean() < 2, method
    exact = whence.influence(run, "test", method="turnover")
    assert exact.info["unit"] == "nats per token"
    with torch.no_grad():
        batch = test.batch(np.arange(2)).inputs
        differences = []
        for masks in (whence.flipped, whence.own):
            with masks(int(exact.ids[5])):
                nats, tokens = run.model(**batch).unbind(1)
            differences.append((nats / tokens).numpy())
    np.testing.assert_allclose(np.asarray(exact)[5, :2], differences[0] - differences[1], rtol=1e-3, atol=1e-4)


def test_what_needs_labels_says_so(tmp_path):
    tokenizer = example.characters()
    collate = example.transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)
    rows = example.rows_of(example.invented(4, np.random.default_rng(0)), tokenizer)
    model = example.pretrained(tokenizer, steps=1, seed=0)
    tuned = example.tune(model, rows, collate, epochs=1, rate=1e-3, rank=4, seed=0)
    data = example.as_dataset(rows, collate, groups="document", labels=None)
    run = whence.Run(TextLoss(tuned), data, test=data)
    assert run.task == LanguageModeling()
    with pytest.raises(whence.WhenceError, match="an audit of texts without labels.*language_modeling.*group_effects"):
        whence.audit(run)
    with pytest.raises(whence.WhenceError, match="an audit of texts without labels"):
        whence.report(run, tmp_path / "report.html")
    with pytest.raises(whence.WhenceError, match="does not end in a linear layer.*turnover or first_order"):
        whence.influence(run, "test", method="kernel")

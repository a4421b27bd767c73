"""Self-influence by other libraries: how much each training instance bears on its own prediction.

High values are said to mark label errors (Koh & Liang 2017; Pruthi et al. 2020). The functions take a trained network, in float32
and without masks, and its training data, and give float [N]. A library is imported when it is called.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

import whence
from whence.estimators.head import features_of, find_head

__all__ = ["ekfac", "last_layer_norms", "tracin", "trak"]

_BATCH = 500  # traker draws its random projection anew for every batch


def ekfac(run: whence.Run) -> np.ndarray:
    """kronfluence's EK-FAC: gᵀ(H + λ)⁻¹g of the loss, on all linear and convolutional layers, with its own damping."""
    from benchmarks.kronfluence_task import Classify
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments

    task, data = Classify(), _data(run)
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer("labels", prepare_model(run.model.eval(), task), task, cpu=True, output_dir=folder,
                            disable_tqdm=True, disable_model_save=True)  # fmt: skip
        analyzer.fit_all_factors(
            "ekfac", data, per_device_batch_size=_BATCH, factor_args=FactorArguments(strategy="ekfac")
        )
        analyzer.compute_self_scores("self", "ekfac", data, per_device_train_batch_size=_BATCH)
        found: np.ndarray = analyzer.load_self_scores("self")["all_modules"].float().numpy()
    return found


def trak(run: whence.Run) -> np.ndarray:
    """traker's TRAK of one network, the diagonal of the training data on itself; 1,024 projected dimensions, else as it comes."""
    from trak import TRAKer

    data, count = _data(run), len(run.train)
    weights = {name: value.clone() for name, value in run.model.eval().state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        traker = TRAKer(run.model, "image_classification", count, folder, device="cpu", proj_dim=1024,
                        use_half_precision=False, logging_level="ERROR")  # fmt: skip
        traker.load_checkpoint(weights, model_id=0)
        for batch in DataLoader(data, _BATCH):
            traker.featurize(batch, num_samples=len(batch[0]))
        traker.finalize_features()
        traker.start_scoring_checkpoint("itself", weights, 0, num_targets=count)
        for batch in DataLoader(data, _BATCH):
            traker.score(batch, num_samples=len(batch[0]))
        return np.array(traker.finalize_scores("itself")).diagonal().copy()


def last_layer_norms(run: whence.Run) -> np.ndarray:
    """Squared norms of the loss's gradient in the last layer: |p − onehot|² · (|a|² + 1), a being what the layer reads."""
    head = find_head(run.model, run.train)
    assert head is not None
    features, outputs = features_of(run.model, head.linear, run.train)
    residuals = outputs.double().softmax(1) - F.one_hot(torch.from_numpy(run.train.targets), outputs.shape[1])
    found: np.ndarray = (residuals.square().sum(1) * (features.double().square().sum(1) + 1)).numpy()
    return found


def tracin(run: whence.Run, checkpoints: Sequence[dict[str, torch.Tensor]], rates: Sequence[float],
           rows: np.ndarray) -> np.ndarray:  # fmt: skip
    """dattri's TracIn of some rows: ``last_layer_norms``, summed over checkpoints by their learning rates.

    Each checkpoint is a call of its own: asked for one layer, dattri takes that layer from the checkpoint and all others from the
    model as it is.
    """
    from dattri.algorithm.tracin import TracInAttributor
    from dattri.task import AttributionTask

    model, total = whence.detach(copy.deepcopy(run.model)).eval(), np.zeros(len(rows))
    last = [name for name, _ in model.named_parameters()][-1].rpartition(".")[0]

    def loss(weights: dict[str, torch.Tensor], batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        inputs, labels = batch
        return F.cross_entropy(torch.func.functional_call(model, weights, (inputs[None],)), labels[None])

    for checkpoint, rate in zip(checkpoints, rates, strict=True):
        model.load_state_dict(checkpoint)
        task = AttributionTask(loss_func=loss, model=model, checkpoints=[checkpoint])
        attributor = TracInAttributor(task=task, weight_list=torch.tensor([rate]), normalized_grad=False, device="cpu",
                                      layer_name=[f"{last}.weight", f"{last}.bias"])  # fmt: skip
        attributor.projector_kwargs = (
            None  # by default gradients are projected to 512 dimensions, and norms off by a tenth
        )
        some = DataLoader(Subset(_data(run), rows.tolist()), _BATCH, shuffle=False)
        total += attributor.self_attribute(some).numpy()
    return total


def _data(run: whence.Run) -> TensorDataset:
    batch = run.train.batch(np.arange(len(run.train)))
    return TensorDataset(batch.inputs, batch.targets)

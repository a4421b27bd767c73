"""Self-influence by other libraries: how much each training instance bears on its own prediction.

High values are said to mark label errors (Koh & Liang 2017; Pruthi et al. 2020). Both functions take a trained network, in float32
and without masks, and its training data, and give float [N]. A library is imported when it is called.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import whence

__all__ = ["ekfac", "tracin", "trak"]

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


def tracin(run: whence.Run, checkpoints: Sequence[dict[str, torch.Tensor]], rates: Sequence[float]) -> np.ndarray:
    """dattri's TracIn: squared norms of the loss's gradient in the last layer, summed over checkpoints by their learning rates."""
    from dattri.algorithm.tracin import TracInAttributor
    from dattri.task import AttributionTask

    model = whence.detach(copy.deepcopy(run.model)).eval()

    def loss(weights: dict[str, torch.Tensor], batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        inputs, labels = batch
        return F.cross_entropy(torch.func.functional_call(model, weights, (inputs[None],)), labels[None])

    task = AttributionTask(loss_func=loss, model=model, checkpoints=list(checkpoints))
    last = [name for name, _ in model.named_parameters()][-1].rpartition(".")[0]
    attributor = TracInAttributor(task=task, weight_list=torch.tensor(rates), normalized_grad=False, device="cpu",
                                  layer_name=[f"{last}.weight", f"{last}.bias"])  # fmt: skip
    found: np.ndarray = attributor.self_attribute(DataLoader(_data(run), _BATCH, shuffle=False)).numpy()
    return found


def _data(run: whence.Run) -> TensorDataset:
    batch = run.train.batch(np.arange(len(run.train)))
    return TensorDataset(batch.inputs, batch.targets)

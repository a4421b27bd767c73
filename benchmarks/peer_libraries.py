"""Methods of ``peers.py`` by other libraries: traker, kronfluence, captum and dattri.

Scores are [N, M], positive where the training instance helps on the target. A library is imported when it is called.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from peer_cases import Case


def traker(case: Case, option: float | None, ridge: float = 0.0) -> np.ndarray:
    """traker's TRAKer with its projector for the CPU (BasicProjector), in float32; λ in the units of ``trak_unprojected``."""
    from trak import TRAKer
    from trak.score_computers import BasicScoreComputer

    class Relative(BasicScoreComputer):
        def get_x_xtx_inv(self, grads: torch.Tensor, xtx: torch.Tensor) -> torch.Tensor:
            self.lambda_reg = (ridge if option is None else option) * float(xtx.trace()) / len(grads)
            return super().get_x_xtx_inv(grads, xtx)

    given, count = case.given, len(case.given.x)
    with tempfile.TemporaryDirectory() as folder:
        traker = TRAKer(case.model(), "image_classification", count, folder, device="cpu", proj_dim=1024,
                        use_half_precision=False, score_computer=Relative, logging_level="ERROR")  # fmt: skip
        for number, network in enumerate(case.networks):
            traker.load_checkpoint(network["weights"], model_id=number)
            for batch in DataLoader(case.train_set(), 500):
                traker.featurize(batch, num_samples=len(batch[0]))
        traker.finalize_features()
        for number, network in enumerate(case.networks):
            traker.start_scoring_checkpoint("test", network["weights"], number, num_targets=len(given.test_x))
            for batch in DataLoader(case.test_set(), 500):
                traker.score(batch, num_samples=len(batch[0]))
        return np.array(traker.finalize_scores("test"))


def ekfac(case: Case, damping: str) -> np.ndarray:
    """kronfluence's EK-FAC on all linear layers; "heuristic" is its damping of .1 of the mean eigenvalue."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments

    from kronfluence_task import Classify

    task, began = Classify(), time.process_time()
    if not case.shared:
        folder = tempfile.TemporaryDirectory()
        analyzer = Analyzer("peers", prepare_model(case.model(), task), task, cpu=True, output_dir=folder.name,
                            disable_tqdm=True, disable_model_save=True)  # fmt: skip
        analyzer.fit_all_factors("ekfac", case.train_set(), per_device_batch_size=500,
                                 factor_args=FactorArguments(strategy="ekfac"))  # fmt: skip
        case.shared.update(analyzer=analyzer, folder=folder, seconds=time.process_time() - began)
    analyzer = case.shared["analyzer"]
    wanted = ScoreArguments(damping_factor=None if damping == "heuristic" else float(damping))
    analyzer.compute_pairwise_scores(damping, "ekfac", case.test_set(), case.train_set(), score_args=wanted,
                                     per_device_query_batch_size=500, per_device_train_batch_size=500)  # fmt: skip
    return analyzer.load_pairwise_scores(damping)["all_modules"].T.float().numpy()


def tracin_fast(case: Case, option: None) -> np.ndarray:
    """captum's TracInCPFast: the last layer, five checkpoints weighed by their learning rates."""
    from captum.influence import TracInCPFast

    return _captum(case, lambda model, *rest, **more: TracInCPFast(model, model[-1], *rest, **more))


def tracin(case: Case, option: None) -> np.ndarray:
    """captum's TracInCP: all layers, five checkpoints weighed by their learning rates."""
    from captum.influence import TracInCP

    return _captum(case, functools.partial(TracInCP, sample_wise_grads_per_batch=True))


def _captum(case: Case, make: Callable[..., Any]) -> np.ndarray:
    checkpoints = case.networks[0]["checkpoints"]

    def load(model: nn.Module, number: int) -> float:
        model.load_state_dict(checkpoints[number][1])
        return float(checkpoints[number][0])

    tracin = make(case.model(), case.train_set(), list(range(len(checkpoints))), load,
                  loss_fn=nn.CrossEntropyLoss(reduction="sum"), batch_size=500)  # fmt: skip
    return tracin.influence((case.given.test_x, case.given.test_y)).T.numpy()


def dattri(solver: str, case: Case, damping: float) -> np.ndarray:
    """dattri's influence functions in all parameters, otherwise as they come."""
    from dattri.algorithm import influence_function
    from dattri.task import AttributionTask

    model = case.model()

    def loss(parameters: dict[str, torch.Tensor], batch: Any) -> torch.Tensor:
        return cross_entropy(torch.func.functional_call(model, parameters, batch[0]), batch[1])

    task = AttributionTask(loss, model, case.networks[0]["weights"])
    attributor = getattr(influence_function, f"IFAttributor{solver}")(task, device="cpu", regularization=damping)
    attributor.cache(DataLoader(case.train_set(), len(case.given.x)))
    with torch.no_grad():
        return attributor.attribute(DataLoader(case.train_set(), 500), DataLoader(case.test_set(), 100)).numpy()

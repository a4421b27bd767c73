"""How each method of ``peers.py`` is called. Scores are [N, M], positive where the training instance helps on the target.

A method sees networks that are trained already. Those that were trained under turn-over dropout are, for other libraries,
plain networks of the same weights: prediction uses all units.
"""

from __future__ import annotations

import functools
import importlib
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize, one_hot
from torch.utils.data import DataLoader, TensorDataset

import peer_settings as settings
import whence
from whence.estimators import METHODS

Factors = list[tuple[torch.Tensor, torch.Tensor]]  # per layer: what it reads [B, D+1], and df/d(what it writes) [B, H]


@dataclass(frozen=True)
class Case:
    """One repetition: a setting, the networks that are scored together, and what is shared by the options of a method."""

    given: settings.Setting
    networks: list[dict[str, Any]]
    shared: dict[str, Any] = field(default_factory=dict)

    def model(self, number: int = 0) -> nn.Sequential:
        """A plain network."""
        model = settings.mlp(self.given.widths)
        model.load_state_dict(self.networks[number]["weights"])
        return model.eval()

    def run(self, number: int) -> whence.Run:
        """A run of this library."""
        model = settings.turnover_mlp(self.given.widths, self.networks[number]["seed"])
        model.load_state_dict(self.networks[number]["weights"])
        given, first = self.given, settings.FIRST_TARGET_ID
        train = (np.arange(len(given.x)), given.x.numpy(), given.y.numpy())
        test = (first + np.arange(len(given.test_x)), given.test_x.numpy(), given.test_y.numpy())
        return whence.Run(model.eval(), train, test=test)

    def train_set(self) -> TensorDataset:
        return TensorDataset(self.given.x, self.given.y)

    def test_set(self) -> TensorDataset:
        return TensorDataset(self.given.test_x, self.given.test_y)


@dataclass(frozen=True)
class Method:
    """What ``score`` needs to know of a method.

    Attributes:
        call: (case, option) → scores [N, M].
        kind: of the networks: "ordinary" or "turnover".
        models: that one set of scores takes.
        most: repetitions at most.
        options: the default, then others of which the best on the truth is reported too.
        needs: modules that are imported before memory is measured.
        targets: how many are scored; None for all.
    """

    call: Callable[[Case, Any], np.ndarray]
    kind: str = "ordinary"
    models: int = 1
    most: int = 1000
    options: tuple[Any, ...] = (None,)
    needs: tuple[str, ...] = ()
    targets: int | None = None


def score(setting: str, name: str, seeds: int, folder: Path) -> list[dict[str, Any]]:
    """Rows of the table: one for the default, one for the option that does best on the truth."""
    given, method = settings.setting(setting), methods()[name]
    some = slice(method.targets)
    given = replace(given, test_x=given.test_x[some], test_y=given.test_y[some], loss=given.loss[..., some])
    for module in method.needs:
        importlib.import_module(module)
    repeats = [_seeds(method, repeat) for repeat in range(min(seeds, method.most))]
    cases = [Case(given, [_load(setting, method.kind, seed, folder) for seed in chosen]) for chosen in repeats]
    baseline, exact = _fresh_peak()
    wanted, grid, first = [method.options[0]], {}, None
    if len(method.options) > 1:
        first = cases[0] if method.models == 1 else Case(given, cases[0].networks[:1])
        grid = {option: _attempt(method, first, option) for option in method.options}
        wanted.append(max(grid, key=lambda option: grid[option][0]))
    rows = []
    for number, option in enumerate(wanted):
        known = {id(first): grid[option]} if grid else {}
        measured = [known.get(id(case)) or _attempt(method, case, option) for case in cases]
        if failure := next((why for value, _, why in measured if why), ""):
            rows.append({"name": name, "failed": failure})
            continue
        row = {"name": name, "models": method.models, "lds": [value for value, _, _ in measured],
               "seconds": [spent for _, spent, _ in measured], "seeds": repeats, "networks": method.kind}  # fmt: skip
        if len(method.options) > 1:
            row["option"] = option
            row["name"] += f", {option}, best on truth" if number else f", {option} (default)"
            row["grid_on_first_network"] = {str(tried): round(found[0], 4) for tried, found in grid.items()}
        rows.append(row)
    peak = (_peak() - baseline) / 2**20
    versions = _versions(method.needs)
    return [
        {
            **row,
            "peak_mib": peak,
            "peak_exact": exact,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            **versions,
        }
        for row in rows
    ]


def _fresh_peak() -> tuple[int, bool]:
    """The peak so far in bytes, and whether it is that of now: Linux can forget the peak of loading data and libraries.

    Elsewhere the difference to a later peak is only a lower bound of what was taken.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return _peak(), True
    return _peak(), False


def _peak() -> int:
    """The largest resident memory of this process so far, in bytes."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _attempt(method: Method, case: Case, option: Any) -> tuple[float, float, str]:
    """LDS (−1 when it fails), seconds of one thread, and why it failed."""
    torch.manual_seed(0)
    before = case.shared.get("seconds", 0.0)
    began = time.process_time()
    try:
        scores = method.call(case, option)
        spent = time.process_time() - began + before
        return settings.lds(np.asarray(scores), case.given), spent, ""
    except Exception as error:  # a peer may fail in any way; the others go on
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return -1.0, time.process_time() - began, f"{type(error).__name__}: {error}"[:300]


def networks_for(setting: str, chosen: list[str], seeds: int, folder: Path) -> None:
    """Train the networks that methods are going to score, where they are not there."""
    given, known = settings.setting(setting), methods()
    for method in (known[name] for name in chosen):
        for repeat in range(min(seeds, method.most)):
            for seed in _seeds(method, repeat):
                path = _path(setting, method.kind, seed, folder)
                if not path.exists():
                    settings.make_network(given, method.kind, seed, path)


def names() -> list[str]:
    return list(methods())


def methods() -> dict[str, Method]:
    """All methods by name."""
    found = {}
    for name in ("auto", *METHODS):
        for models in (1, 5):
            label = f"whence {name}" + (f" ×{models}" if models > 1 else "")
            found[label] = Method(functools.partial(_whence, name), "turnover", models, 1000 if models == 1 else 5)
    found["input similarity"] = Method(_similarity, models=0, most=1)
    found["grad-dot"] = Method(_grad_dot)
    found["last-layer influence"] = Method(_last_layer)
    tracin = {"needs": ("captum.influence",)}
    found["TracInCPFast (captum)"] = Method(_tracin_fast, **tracin)
    ridges = (0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0)
    for kind, suffix in (("ordinary", ""), ("turnover", ", turn-over net")):
        found[f"TRAK unprojected{suffix}"] = Method(_trak, kind, options=ridges)
        found[f"EK-FAC (kronfluence){suffix}"] = Method(
            _ekfac, kind, options=("1e-08", "heuristic", "1e-04", "1e-03"), needs=("kronfluence",)
        )
        found[f"TRAK unprojected ×10{suffix}"] = Method(_trak, kind, 10, options=ridges)
    found["TracInCP (captum)"] = Method(_tracin, **tracin)
    dattri = {"needs": ("dattri.algorithm.influence_function", "dattri.task")}
    for solver in ("DataInf", "Arnoldi", "CG"):
        found[f"IF-{solver} (dattri), 30 targets"] = Method(
            functools.partial(_dattri, solver), options=(0.0, 0.1), targets=30, **dattri
        )
    traker = {"needs": ("trak",)}
    found["TRAK (traker, 1,024 dimensions)"] = Method(_traker, options=(0.0, 1.0), **traker)
    # Ten models take minutes: only with the ridge that was best for one.
    found["TRAK (traker, 1,024 dimensions, ridge 1) ×10"] = Method(
        functools.partial(_traker, ridge=1.0), models=10, **traker
    )
    return found


def _whence(name: str, case: Case, option: None) -> np.ndarray:
    """One run, or the mean over runs of scores divided by their standard deviation."""
    found = [np.asarray(whence.influence(case.run(k), "test", method=name)) for k in range(len(case.networks))]
    return found[0] if len(found) == 1 else np.mean([scores / scores.std() for scores in found], axis=0)


def _similarity(case: Case, option: None) -> np.ndarray:
    """Cosine of inputs, negative where labels differ: no network at all."""
    given = case.given
    cosine = normalize(given.x) @ normalize(given.test_x).T
    return torch.where(given.y[:, None] == given.test_y, cosine, -cosine).numpy()


def _grad_dot(case: Case, option: None) -> np.ndarray:
    """Products of gradients of the loss in all parameters."""
    given, model = case.given, case.model()
    return _gram(_factors(model, given.x, given.y, _loss), _factors(model, given.test_x, given.test_y, _loss)).numpy()


def _last_layer(case: Case, option: None) -> np.ndarray:
    """Koh and Liang's influence in the last layer alone, its Hessian A ⊗ gI, damping .1 of A's mean diagonal."""
    given, model = case.given, case.model()
    a, e = _factors(model, given.x, given.y, _loss)[-1]
    b, f = _factors(model, given.test_x, given.test_y, _loss)[-1]
    moment = a.T @ a / len(a)
    moment += 0.1 * moment.diagonal().mean() * torch.eye(len(moment))
    return ((a @ torch.linalg.solve(moment, b.T)) * (e @ f.T)).numpy()


def _trak(case: Case, ridge: float) -> np.ndarray:
    """TRAK's formula (Park et al. 2023) without its projection, through the products of gradients.

    (G Gᵀ + λ)⁻¹ G g(x), which equals G (Gᵀ G + λ)⁻¹ g(x), times 1 − p(z); both averaged over models. λ is in units of the mean
    square of a training gradient; traker's default is 0.
    """
    given = case.given
    similarities, doubts = [], []
    for number in range(len(case.networks)):
        model = case.model(number)
        train = _factors(model, given.x, given.y, _margin)
        test = _factors(model, given.test_x, given.test_y, _margin)
        kernel, across = _gram(train, train), _gram(train, test)
        if ridge == 0:
            kernel, across = kernel.double(), across.double()
        kernel.diagonal().add_((ridge or 1e-9) * kernel.diagonal().mean())
        similarities.append(torch.cholesky_solve(across, torch.linalg.cholesky(kernel)).float())
        with torch.no_grad():
            doubts.append(1 - model(given.x).softmax(1).gather(1, given.y[:, None]))
    return (torch.stack(similarities).mean(0) * torch.stack(doubts).mean(0)).numpy()


def _traker(case: Case, option: float | None, ridge: float = 0.0) -> np.ndarray:
    """traker's TRAKer with its projector for the CPU (BasicProjector), in float32; λ in the units of ``_trak``."""
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


def _ekfac(case: Case, damping: str) -> np.ndarray:
    """kronfluence's EK-FAC on all linear layers; "heuristic" is its damping of .1 of the mean eigenvalue."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Classify(Task):
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> torch.Tensor:
            logits = model(batch[0])
            labels = torch.multinomial(logits.detach().softmax(1), 1).flatten() if sample else batch[1]
            return cross_entropy(logits, labels, reduction="sum")

        def compute_measurement(self, batch: Any, model: nn.Module) -> torch.Tensor:
            return cross_entropy(model(batch[0]), batch[1], reduction="sum")

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


def _tracin_fast(case: Case, option: None) -> np.ndarray:
    """captum's TracInCPFast: the last layer, five checkpoints weighed by their learning rates."""
    from captum.influence import TracInCPFast

    return _captum(case, lambda model, *rest, **more: TracInCPFast(model, model[-1], *rest, **more))


def _tracin(case: Case, option: None) -> np.ndarray:
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


def _dattri(solver: str, case: Case, damping: float) -> np.ndarray:
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


def _factors(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor, quantity: Callable[..., torch.Tensor]) -> Factors:
    """The gradient of a quantity of each instance, in the two factors that each linear layer gives."""
    reads, writes = [], []
    value = x
    for layer in model:
        if isinstance(layer, nn.Linear):
            reads.append(torch.cat([value.detach(), torch.ones(len(value), 1)], dim=1))
        value = layer(value)
        if isinstance(layer, nn.Linear):
            writes.append(value)
    return list(zip(reads, torch.autograd.grad(quantity(value, y).sum(), writes), strict=True))


def _gram(first: Factors, second: Factors) -> torch.Tensor:
    """Products of gradients: float32 [N, M]."""
    return sum((a @ b.T) * (e @ f.T) for (a, e), (b, f) in zip(first, second, strict=True))


def _loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits, labels, reduction="none")


def _margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log p − log(1 − p) of the label."""
    others = logits.masked_fill(one_hot(labels, logits.shape[1]).bool(), -torch.inf)
    return logits.gather(1, labels[:, None])[:, 0] - others.logsumexp(1)


def _versions(modules: tuple[str, ...]) -> dict[str, Any]:
    from importlib.metadata import version

    package = {"trak": "traker"}
    roots = {module.split(".")[0] for module in modules}
    return (
        {"library": {package.get(root, root): version(package.get(root, root)) for root in sorted(roots)}}
        if roots
        else {}
    )


def _seeds(method: Method, repeat: int) -> list[int]:
    count = max(method.models, 1)
    return list(range(repeat * count, (repeat + 1) * count))


def _path(setting: str, kind: str, seed: int, folder: Path) -> Path:
    return folder / f"{setting}-{kind}-{seed}.pt"


def _load(setting: str, kind: str, seed: int, folder: Path) -> dict[str, Any]:
    return {**torch.load(_path(setting, kind, seed, folder), weights_only=True), "seed": seed}

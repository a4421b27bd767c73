"""whence: which training examples made the model predict this, which help or hurt, and which labels not to trust.

From one training run with turn-over dropout (Kobayashi et al. 2020, arXiv 2012.04207).
"""

from typing import Any

from whence import masks
from whence.attachment import attach, attached, detach
from whence.auditing import Audit, audit
from whence.cleansing import Cleansing, cleanse
from whence.data import Dataset, load
from whence.dropout import TurnOverDropout, checkpoint_contexts, flipped, full, own, random
from whence.dynamics import Dynamics
from whence.ensembles import Ensemble, ensemble
from whence.errors import WhenceError
from whence.estimators import influence
from whence.estimators.memorization import memorization
from whence.groups import GroupEffects, group_effects
from whence.held_out import out_of_sample
from whence.models import prepare
from whence.reporting import report
from whence.resolution import resolution
from whence.reviewing import Review
from whence.run import Run, open_run
from whence.score_store import load_scores
from whence.scores import Scores
from whence.shared_words import SharedWords
from whence.subnetworks import subnetwork_average
from whence.training import fit
from whence.verifying import verify

__version__ = "0.1.0.dev0"

__all__ = [
    "Audit",
    "Cleansing",
    "Comparison",
    "Dataset",
    "Dynamics",
    "Ensemble",
    "GroupEffects",
    "Review",
    "Run",
    "Scores",
    "SharedWords",
    "TurnOverDropout",
    "WhenceError",
    "attach",
    "attached",
    "audit",
    "checkpoint_contexts",
    "cleanse",
    "compare",
    "detach",
    "ensemble",
    "evaluation",
    "fit",
    "flipped",
    "full",
    "group_effects",
    "influence",
    "load",
    "load_scores",
    "masks",
    "memorization",
    "open_run",
    "out_of_sample",
    "own",
    "prepare",
    "random",
    "report",
    "resolution",
    "subnetwork_average",
    "verify",
]


def __getattr__(name: str) -> Any:
    """``whence.evaluation`` and ``whence.compare``, imported when they are first asked for: few programs retrain, or compare."""
    if name == "evaluation":
        import whence.evaluation

        return whence.evaluation
    if name in ("Comparison", "compare"):
        import whence.comparison

        return getattr(whence.comparison, name)
    raise AttributeError(f"module 'whence' has no attribute {name!r}")

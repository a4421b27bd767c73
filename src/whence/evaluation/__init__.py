"""Are the scores right? Retrain without some of the data and see: linear datamodeling score, leave-one-out, and the like."""

from whence.evaluation.adapters import QuandaArguments, dattri_arguments, quanda_arguments
from whence.evaluation.consistency import Agreement, agreement
from whence.evaluation.counterfactuals import Brittleness, LeaveOneOut, brittleness, leave_one_out
from whence.evaluation.datamodeling import LDS, lds
from whence.evaluation.ground_truth import GroundTruth, load_truth
from whence.evaluation.memories import MemorizationAgreement, memorization_agreement
from whence.evaluation.mislabels import MislabelAUC, mislabel_auc
from whence.evaluation.retraining import retrain

__all__ = [
    "LDS",
    "Agreement",
    "Brittleness",
    "GroundTruth",
    "LeaveOneOut",
    "MemorizationAgreement",
    "MislabelAUC",
    "QuandaArguments",
    "agreement",
    "brittleness",
    "dattri_arguments",
    "lds",
    "leave_one_out",
    "load_truth",
    "memorization_agreement",
    "mislabel_auc",
    "quanda_arguments",
    "retrain",
]

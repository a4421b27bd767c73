"""What whence knows of labels, handed to cleanlab in one call.

    issues = whence.integrations.cleanlab.find_label_issues(run)     # bool [N]
    lab = whence.integrations.cleanlab.datalab(run); lab.report()

Both give cleanlab the probabilities that cross-validation would give it (``whence.out_of_sample``), from one run. The other way
round is a call of cleanlab's own: ``cleanlab.filter.find_label_issues(labels, whence.out_of_sample(run))``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from whence.data import Classification
from whence.errors import WhenceError
from whence.held_out import out_of_sample
from whence.run import Run

try:
    import cleanlab
    from cleanlab.filter import find_label_issues as _find_label_issues
except ImportError as error:
    raise WhenceError("cleanlab is not installed", where="whence.integrations.cleanlab",
                      mend="pip install 'whence[cleanlab]'") from error  # fmt: skip

__all__ = ["datalab", "find_label_issues"]


def find_label_issues(run: Run, **options: Any) -> np.ndarray:
    """Which labels of the training instances cleanlab takes for errors (confident learning, Northcutt et al. 2021).

    Args:
        options: of ``cleanlab.filter.find_label_issues``, such as ``filter_by`` or ``return_indices_ranked_by``.

    Returns:
        bool [N] in the order of ``run.train``; with ``return_indices_ranked_by``, the rows.

    Raises:
        WhenceError: a run that has no classes.
    """
    found: np.ndarray = _find_label_issues(_labels(run), out_of_sample(run), **options)
    return found


def datalab(run: Run, **options: Any) -> Any:
    """A ``cleanlab.Datalab`` of the training instances, its issues found.

    Args:
        options: of ``Datalab.find_issues``, such as ``features`` [N, F] or ``issue_types``.

    Returns:
        The Datalab; ``get_issues()`` has a row for each instance, in the order of ``run.train``, under its name.

    Raises:
        WhenceError: a run that has no classes.
    """
    labels = _labels(run)
    task, train = run.task, run.train
    assert isinstance(task, Classification)
    table = {"name": train.all_names(), "label": task.show(labels)}
    # Datalab orders classes by their names.
    order = np.argsort(np.array(task.classes, dtype=object).astype(str), kind="stable")
    lab = cleanlab.Datalab(table, label_name="label", task="classification")
    lab.find_issues(pred_probs=out_of_sample(run)[:, order], **options)
    return lab


def _labels(run: Run) -> np.ndarray:
    if not isinstance(run.task, Classification):
        raise WhenceError(
            "label issues of a run without classes", where="the run", got=run.task.kind, expected="a classification"
        )
    return run.train.targets

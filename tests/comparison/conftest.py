"""The runs of the report's tests, to compare others with."""

from tests.reporting.conftest import corrupted_run, number_run, text_run, train_only_run

__all__ = ["corrupted_run", "number_run", "text_run", "train_only_run"]

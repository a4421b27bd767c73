"""Change what seems to do harm, train again, and see against controls whether it did any good."""

from whence.cleansing.experiment import cleanse
from whence.cleansing.results import Cleansing, Step

__all__ = ["Cleansing", "Step", "cleanse"]

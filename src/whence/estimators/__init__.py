"""Estimators of influence: one file each, one way to call them all, ``influence``."""

from whence.estimators.dispatch import METHODS, influence
from whence.estimators.reference import reference

__all__ = ["METHODS", "influence", "reference"]

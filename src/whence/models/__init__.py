"""Ready-made models: a name such as ``mlp:512,512`` and a dataset give a module with its masks in place."""

from whence.models.building import ModelSpec, build, encode_more, prepare
from whence.models.conv import ConvNet
from whence.models.mlp import MLP
from whence.models.ngrams import NgramClassifier

__all__ = ["MLP", "ConvNet", "ModelSpec", "NgramClassifier", "build", "encode_more", "prepare"]

"""Ready-made models: a name such as ``mlp:512,512`` or an encoder's folder, and a dataset, give a module with masks in place."""

from whence.models.building import build, encode_more, prepare
from whence.models.conv import ConvNet
from whence.models.mlp import MLP
from whence.models.ngrams import NgramClassifier
from whence.models.resnet import ResNet18
from whence.models.spec import ModelSpec
from whence.models.vgg import VGG

__all__ = ["MLP", "VGG", "ConvNet", "ModelSpec", "NgramClassifier", "ResNet18", "build", "encode_more", "prepare"]

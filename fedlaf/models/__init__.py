"""Classifiers (extractor and head apart) and the densities of their representations."""

from fedlaf.models.classifier import EXTRACTOR, Classifier, ModelSpec, Output
from fedlaf.models.convolutional import Cnn, ResNet18, SmallCnn
from fedlaf.models.gaussian import Gaussian
from fedlaf.models.mlp import Mlp
from fedlaf.models.precision import PRECISIONS, Descent, gradients_of, in_precision
from fedlaf.models.transformer import Transformer, Vit
from fedlaf.models.vae import Reconstruction, Vae, build_vae

HEAD = "head."
"""Prefix of the head's names in a classifier's state dict."""

Density = Vae | Gaussian
"""What `h` and `h_f` can be."""

__all__ = [
    "EXTRACTOR",
    "HEAD",
    "PRECISIONS",
    "Classifier",
    "Cnn",
    "Density",
    "Descent",
    "Gaussian",
    "Mlp",
    "ModelSpec",
    "Output",
    "Reconstruction",
    "ResNet18",
    "SmallCnn",
    "Transformer",
    "Vae",
    "Vit",
    "build_vae",
    "gradients_of",
    "in_precision",
]

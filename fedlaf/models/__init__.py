"""Classifiers (extractor and head apart) and the VAE of their representations."""

from fedlaf.models.classifier import EXTRACTOR, Classifier, Cnn, ModelSpec, Output, ResNet18, SmallCnn
from fedlaf.models.vae import Reconstruction, Vae, build_vae

__all__ = [
    "EXTRACTOR",
    "Classifier",
    "Cnn",
    "ModelSpec",
    "Output",
    "Reconstruction",
    "ResNet18",
    "SmallCnn",
    "Vae",
    "build_vae",
]

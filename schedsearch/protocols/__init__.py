"""Contracts between the tool, the models and the trainers.

This is the lowest layer of the package, so a custom trainer or model imports nothing else.
Read first: ``backbone``, ``trainer``, ``method``.

Shapes: N batch, C channels, H height, W width.
"""

from schedsearch.protocols.backbone import Backbone, ExitLayers, StagedBackbone
from schedsearch.protocols.method import Method, NetworkCall, ObservedCall
from schedsearch.protocols.process import NoiseProcess
from schedsearch.protocols.solver import Denoiser, Solver, StepNoise, Wants
from schedsearch.protocols.trainer import ExitRule, Progress, Trainer, TrainingData

__all__ = [
    "Backbone",
    "Denoiser",
    "ExitLayers",
    "ExitRule",
    "Method",
    "NetworkCall",
    "NoiseProcess",
    "ObservedCall",
    "Progress",
    "Solver",
    "StagedBackbone",
    "StepNoise",
    "Trainer",
    "TrainingData",
    "Wants",
]

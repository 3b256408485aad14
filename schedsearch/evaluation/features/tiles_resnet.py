"""A second shipped extractor for 32 x 32 colour tiles, to use as ``evaluation.auditor``.

Design, normalisation and pooling differ from the tiles CNN; both learned from the same tiles.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from schedsearch.evaluation.features.packaged import FeatureClassifier, PackagedExtractor
from schedsearch.evaluation.features.tiles_cnn import IMAGE_SIZE, NUM_CLASSES

WEIGHTS_FILE = "tiles_resnet.safetensors"
NUM_FEATURES = 48
_WIDTHS = (24, 48)
_GROUPS = 4


class Residual(nn.Module):
    """Halves the sides, then adds two convolutions to the result."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
        self.first = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(_GROUPS, outputs) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, D, H / 2, W / 2)."""
        x = self.down(x)
        h = self.first(F.silu(self.norms[0](x)))
        added: Tensor = x + self.second(F.silu(self.norms[1](h)))
        return added


class TilesResNet(FeatureClassifier):
    """Two residual stages with group norm, means over quarters of the image, 48 features."""

    def __init__(self) -> None:
        stages = [Residual(a, b) for a, b in zip((3, *_WIDTHS), _WIDTHS, strict=False)]
        body = nn.Sequential(*stages, nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        super().__init__(body, _WIDTHS[-1] * 4, NUM_FEATURES, num_classes=NUM_CLASSES)


def load(device: torch.device | str = "cpu") -> PackagedExtractor:
    """Load the tiles ResNet with its shipped weights.

    Raises:
        CheckpointError: If the package's weights are missing or damaged.
    """
    return PackagedExtractor.load(
        "tiles ResNet", TilesResNet(), WEIGHTS_FILE, IMAGE_SIZE, device, channels=3
    )

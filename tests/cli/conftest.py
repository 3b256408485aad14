from pathlib import Path

import pytest
import yaml
from safetensors.torch import save_file
from tiny_runs import TINY

from schedsearch.backbones.registry import build_backbone
from schedsearch.settings import BackboneSettings

CONFIG = {
    "img_size": 8,
    "patch_size": 4,
    "in_chans": 1,
    "embed_dim": 16,
    "depth": 6,
    "num_heads": 2,
    "num_classes": 10,
}


@pytest.fixture
def uvit_space(tmp_path: Path) -> Path:
    """A space of a U-ViT with random weights and 3 decoder blocks, for sampling and timing."""
    backbone = {"family": "uvit", "config": CONFIG}
    net = build_backbone(BackboneSettings(family="uvit", config=CONFIG))
    save_file(net.state_dict(), tmp_path / "uvit.safetensors")
    path = tmp_path / "uvit.yaml"
    sections = {
        "backbone": {**backbone, "checkpoint": "uvit.safetensors"},
        "solver": TINY["solver"],
        "evaluation": TINY["evaluation"],
    }
    path.write_text(yaml.safe_dump(sections))
    return path

"""Two short texts that tell whether rows of two studies compare."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from torch import nn

from schedsearch.backbones.weights.checkpoint import fingerprint
from schedsearch.settings import DiffusionSettings, StudySettings


def study_digest(settings: StudySettings) -> str:
    """First 16 hex digits of the SHA-256 of what decides a schedule's weights and images.

    Sections that only say which schedules are measured, where and how often are left out, and so
    is the place of the starting weights: ``identity_of`` has their values.

    Args:
        settings: The study.
    """
    backbone = asdict(settings.backbone)
    del backbone["checkpoint"]
    kept = {
        "backbone": backbone,
        "data": asdict(settings.data),
        "diffusion": _diffusion(settings.diffusion),
        "trainer": settings.trainer,
        "recipe": asdict(settings.recipe),
        "solver": settings.solver.to_dict(),
        "features": settings.evaluation.features,
    }
    if settings.recipe.weights == "shared":
        kept["space"] = asdict(settings.space)
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _diffusion(settings: DiffusionSettings) -> dict[str, Any]:
    """With the training times, which flow matching chooses."""
    return asdict(settings) if settings.process == "flow" else settings.to_dict()


def identity_of(settings: StudySettings, start: nn.Module) -> dict[str, str]:
    """The study, and the weights that all of its fine-tunes come from.

    Args:
        settings: The study.
        start: Network with those weights.
    """
    return {"study_digest": study_digest(settings), "pretrained": fingerprint(start)}

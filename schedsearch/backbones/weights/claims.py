"""Compares what weights say of their own training with the search space; imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.backbones.weights.claim_sources import (
    BETAS,
    FLAGS,
    PREDICTION,
    SCHEDULE,
    SCHEDULER,
    SIDES,
    STEPS,
    prediction_of,
)
from schedsearch.backbones.weights.sit_files import TIME
from schedsearch.config.backbone_arguments import REGISTRY
from schedsearch.exceptions import CheckpointError
from schedsearch.settings import DiffusionSettings

if TYPE_CHECKING:
    from torch import nn

ATTRIBUTE = "_schedsearch_claims"
"""Attribute of a loaded network: what its weights say of themselves."""

_SCHEDULES = {"squaredcos_cap_v2": "cosine", "cosine": "cosine", "linear": "linear"}
_OTHER_SCHEDULES = ("scaled_linear", "sigmoid", "sqrt", "karras", "quad", "const")

_log = logging.getLogger(__name__)


def check_claims(net: object, diffusion: DiffusionSettings) -> None:
    """Compare what the loaded weights say of themselves with the search space.

    Raises:
        CheckpointError: If they were trained for another prediction or noise schedule.
    """
    from schedsearch.backbones.dit import DiT
    from schedsearch.backbones.wrapped import WrappedBackbone

    inner = net.net if isinstance(net, WrappedBackbone) else net
    claims = dict(getattr(inner, ATTRIBUTE, {}))
    if not isinstance(inner, DiT):
        claims.pop(TIME, None)  # NOTE: another class may convert the time itself
    compare_claims(claims, diffusion)
    for text in _doubts(claims, inner):
        _log.warning("weights: %s", text)


def compare_claims(claims: Mapping[str, Any], diffusion: DiffusionSettings) -> None:
    """As :func:`check_claims`, for statements that were read already."""
    for ours, value, theirs in _contradictions(claims, diffusion):
        raise CheckpointError(
            f"The weights were trained with {theirs}, as their own file says, but the search "
            f"space has {ours}: {value}. Correct the section 'diffusion', or take other weights."
        )


def _contradictions(
    claims: Mapping[str, Any], diffusion: DiffusionSettings
) -> Iterator[tuple[str, object, str]]:
    """Key and value of the space, and what the file states instead."""
    betas, prediction = diffusion.betas, str(diffusion.prediction)
    flow = getattr(diffusion, "process", None) == "flow"
    if (fed := claims.get(TIME)) is not None and not (flow and diffusion.time == fed):
        key = "time" if flow else "process"
        value = getattr(diffusion, key)
        yield f"diffusion.{key}", value, f"process: flow and time: {fed}, as REPA is"
    path_type, model = _text(claims, "path_type"), _text(claims, "model")
    straight = path_type == "linear" or (model.startswith("sit-") and not path_type)
    if path_type == "gvp" or (straight and not flow):
        known = [key for key in ("model", "prediction", "path_type") if key in claims]
        listed = ", ".join(f"{key} {claims[key]}" for key in known)
        yield "diffusion.betas", betas, f"an interpolant of SiT ({listed})"
    scheduler = str(claims.get(SCHEDULER, ""))
    if scheduler.startswith("EDM") or (scheduler.startswith("FlowMatch") and not flow):
        yield "diffusion.process", "flow" if flow else "ddpm", f"the scheduler {scheduler}"
    for key in PREDICTION:
        kind = prediction_of(claims.get(key))
        if flow and kind in ("v", "flow"):
            kind = "velocity"
        if kind is not None and kind != prediction:
            yield "diffusion.prediction", prediction, f"{key} {claims[key]}"
    if flow:
        if _text(claims, "beta_schedule"):
            yield "diffusion.process", "flow", f"beta_schedule {claims['beta_schedule']}"
        return
    for key in SCHEDULE:
        said = _text(claims, key)
        # NOTE: vp is the continuous form of linear.
        wanted = "linear" if betas == "vp" else betas
        if said in _OTHER_SCHEDULES or _SCHEDULES.get(said, wanted) != wanted:
            yield "diffusion.betas", betas, f"{key} {claims[key]}"
    for key in FLAGS:
        if claims.get(key):
            yield "diffusion.betas", betas, f"{key} {claims[key]}"
    if betas == "vp":
        return
    numbers = {**dict.fromkeys(STEPS, 1000.0), **(BETAS if betas == "linear" else {})}
    for key, number in numbers.items():
        value = claims.get(key, number)
        if isinstance(value, int | float) and value != number:
            yield "diffusion.betas", f"{betas}, that is {key} {number:g}", f"{key} {value:g}"


def _doubts(claims: Mapping[str, Any], net: Any) -> Iterator[str]:
    """Statements on size and classes that the shapes of the weights do not settle."""
    classes, own = claims.get("num_classes"), getattr(net, "num_classes", None)
    if isinstance(classes, int) and own is not None and classes not in (own, own + 1):
        yield f"their file says num_classes {classes}, but the network has {own} classes"
    shape = getattr(net, "in_shape", None)
    for key in SIDES:
        side = claims.get(key)
        if isinstance(side, int) and shape is not None and side not in (shape[-1], 8 * shape[-1]):
            yield f"their file says {key} {side}, but the network takes {shape[-1]} x {shape[-1]}"
    _, fixed = REGISTRY.get(str(claims.get("model")), ("", {}))
    heads = claims.get("num_heads", fixed.get("num_heads"))
    own_heads = next((m.num_heads for m in net.modules() if hasattr(m, "num_heads")), heads)
    if isinstance(heads, int) and heads != own_heads:
        yield f"their file says num_heads {heads}, but the network has {own_heads}"


def remember(net: nn.Module, claims: Mapping[str, Any]) -> None:
    """Keep with a network what its weights say of themselves."""
    setattr(net, ATTRIBUTE, dict(claims))


def _text(claims: Mapping[str, Any], key: str) -> str:
    value = claims.get(key)
    return value.lower() if isinstance(value, str) else ""

"""What a weights file says of its own training, compared with the search space.

No torch here, so that ``check`` stays fast.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from schedsearch.backbones.weights.sit_files import TIME, is_repa
from schedsearch.exceptions import CheckpointError
from schedsearch.settings import DiffusionSettings

if TYPE_CHECKING:
    from torch import nn

CLAIMS_KEY = "schedsearch.claims"
"""Metadata key of converted weights: what their source said."""

ATTRIBUTE = "_schedsearch_claims"
"""Attribute of a loaded network: what its weights say of themselves."""

_MAX_BYTES = 1_000_000
_MAX_NESTING = 4

_SAME = {
    "eps": ("eps", "epsilon", "noise", "pred_noise", "predict_noise"),
    "v": ("v", "velocity", "v_prediction", "v-prediction", "pred_v", "vpred", "v_pred"),
    "x0": ("x0", "x_0", "x_start", "xstart", "start_x", "sample", "pred_x0", "data"),
    "score": ("score",),
    "flow": ("flow", "flow_prediction", "rectified_flow", "flow_matching"),
}
_PREDICTION = ("prediction", "prediction_type", "parameterization", "objective", "pred_type")
_SCHEDULE = ("beta_schedule", "noise_schedule", "betas")
_SCHEDULES = {"squaredcos_cap_v2": "cosine", "cosine": "cosine", "linear": "linear"}
_OTHER_SCHEDULES = ("scaled_linear", "sigmoid", "sqrt", "karras", "quad", "const")
_STEPS = ("num_train_timesteps", "diffusion_steps", "noise_steps")
_BETAS = {"beta_start": 1e-4, "beta_end": 0.02}
_KNOWN = frozenset(
    (
        *(*_PREDICTION, *_SCHEDULE, *_STEPS, *_BETAS),
        *("path_type", "model", "num_classes", "image_size", TIME),
    )
)

_log = logging.getLogger(__name__)


def claims_in(content: object) -> dict[str, Any]:
    """Arguments of training that plain data states, by their usual names.

    Args:
        content: What a file holds: mappings, namespaces, tensors.
    """
    found: dict[str, Any] = {}
    for key, value in _plain_values(content, 0):
        if key in _KNOWN and isinstance(value, str | int | float) and value != "":
            found.setdefault(key, value)
        elif key == "predict_xstart" and value is True:
            found.setdefault("prediction", "x_start")
    return found


def claims_beside(path: Path) -> dict[str, Any]:
    """What the JSON files beside weights state: a config, arguments, a pipeline's scheduler."""
    found: dict[str, Any] = {}
    scheduler = path.parent.parent / "scheduler" / "scheduler_config.json"
    for file in (path.parent / "config.json", path.parent / "args.json", scheduler):
        try:
            if file.stat().st_size <= _MAX_BYTES:
                found = {**claims_in(json.loads(file.read_text(encoding="utf-8"))), **found}
        except (OSError, ValueError, RecursionError):
            continue
    return found


def claims_of_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What the header of a safetensors file states."""
    try:
        kept = json.loads(metadata.get(CLAIMS_KEY, "{}"))
    except (ValueError, RecursionError):
        kept = {}
    return {**claims_in(metadata), **claims_in(kept)}


def claims_of_file(path: Path) -> dict[str, Any]:
    """What a file and those beside it state, without torch: of .safetensors only the header."""
    names: list[str] = []
    metadata: Mapping[str, str] = {}
    try:
        with safe_open(path, framework="np") as file:
            names, metadata = list(file.keys()), file.metadata() or {}
    except (SafetensorError, OSError):
        pass  # NOTE: another layout, or damaged, which loading says
    found = {**claims_beside(path), **claims_of_metadata(metadata)}
    return {**found, TIME: "sigma"} if is_repa(dict.fromkeys(names)) else found


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
    for key in _PREDICTION:
        kind = next((k for k, words in _SAME.items() if _text(claims, key) in words), None)
        if flow and kind in ("v", "flow"):
            kind = "velocity"
        if kind is not None and kind != prediction:
            yield "diffusion.prediction", prediction, f"{key} {claims[key]}"
    if flow:
        if _text(claims, "beta_schedule"):
            yield "diffusion.process", "flow", f"beta_schedule {claims['beta_schedule']}"
        return
    for key in _SCHEDULE:
        said = _text(claims, key)
        # NOTE: vp is the continuous form of linear.
        wanted = "linear" if betas == "vp" else betas
        if said in _OTHER_SCHEDULES or _SCHEDULES.get(said, wanted) != wanted:
            yield "diffusion.betas", betas, f"{key} {claims[key]}"
    if betas == "vp":
        return
    numbers = {**dict.fromkeys(_STEPS, 1000.0), **(_BETAS if betas == "linear" else {})}
    for key, number in numbers.items():
        value = claims.get(key, number)
        if isinstance(value, int | float) and value != number:
            yield "diffusion.betas", f"{betas}, that is {key} {number:g}", f"{key} {value:g}"


def _doubts(claims: Mapping[str, Any], net: Any) -> Iterator[str]:
    """Statements on size and classes that the shapes of the weights do not settle."""
    classes, own = claims.get("num_classes"), getattr(net, "num_classes", None)
    if isinstance(classes, int) and own is not None and classes not in (own, own + 1):
        yield f"their file says num_classes {classes}, but the network has {own} classes"
    side, shape = claims.get("image_size"), getattr(net, "in_shape", None)
    if isinstance(side, int) and shape is not None and side not in (shape[-1], 8 * shape[-1]):
        yield f"their file says image_size {side}, but the network takes {shape[-1]} x {shape[-1]}"


def remember(net: nn.Module, claims: Mapping[str, Any]) -> None:
    """Keep with a network what its weights say of themselves."""
    setattr(net, ATTRIBUTE, dict(claims))


def _text(claims: Mapping[str, Any], key: str) -> str:
    value = claims.get(key)
    return value.lower() if isinstance(value, str) else ""


def _plain_values(content: object, depth: int) -> Iterator[tuple[str, object]]:
    """Keys and values of nested plain data, the outer ones first."""
    if isinstance(content, argparse.Namespace):
        content = vars(content)
    if not isinstance(content, Mapping) or depth > _MAX_NESTING:
        return
    deeper: list[object] = []
    for key, value in content.items():
        if isinstance(value, Mapping | argparse.Namespace):
            deeper.append(value)
        elif isinstance(key, str):
            yield key, value
    for value in deeper:
        yield from _plain_values(value, depth + 1)

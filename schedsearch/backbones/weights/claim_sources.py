"""What a weights file, and plain data beside it, says of its own training; imports no torch."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from schedsearch.backbones.weights.sit_files import TIME, is_repa
from schedsearch.files.problems import Findings
from schedsearch.files.strict_yaml import parse_document

CLAIMS_KEY = "schedsearch.claims"
"""Metadata key of converted weights: what their source said."""

PREDICTION = (
    *("prediction", "prediction_type", "parameterization", "objective", "pred_type"),
    *("predict_type", "model_mean_type", "mean_type", "predict", "pred", "model_output"),
)
SCHEDULE = ("beta_schedule", "noise_schedule", "betas")
FLAGS = ("rescale_betas_zero_snr", "zero_terminal_snr", "zsnr", "trained_betas")
"""Changes of the noise schedule that no search space has."""
STEPS = ("num_train_timesteps", "diffusion_steps", "noise_steps", "num_diffusion_timesteps")
BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "linear_start": 1e-4, "linear_end": 0.02}
SIDES = ("image_size", "img_size", "resolution")
SCHEDULER = "scheduler"
"""Class of a scheduler of diffusers."""

_KNOWN = frozenset(
    (
        *(*PREDICTION, *SCHEDULE, *FLAGS, *STEPS, *BETAS, *SIDES),
        *("path_type", "model", "num_classes", "num_heads", TIME),
    )
)
_KINDS = {
    "eps": ("eps", "epsilon", "noise"),
    "v": ("v", "velocity"),
    "x0": ("x", "x0", "x_0", "x_start", "xstart", "start_x", "sample", "data"),
    "score": ("score",),
    "flow": ("flow", "rectified_flow", "flow_matching"),
}
_AROUND = re.compile("^(predict|pred)_?|_?(pred|prediction|parameterization)$")
"""What names of predictions have around the word that counts."""

_BESIDE = (
    *("config.json", "args.json", "scheduler_config.json", "scheduler/scheduler_config.json"),
    *("../scheduler/scheduler_config.json", "config.yaml", "args.yaml", "hparams.yaml"),
    "../hparams.yaml",
)
_MAX_BYTES = 1_000_000
_MAX_NESTING = 6


def claims_in(content: object) -> dict[str, Any]:
    """Arguments of training that plain data states, by their usual names.

    Args:
        content: What a file holds: mappings, lists, namespaces, JSON or YAML as text, tensors.
    """
    found: dict[str, Any] = {}
    for key, value in _plain_values(content, 0):
        if key == "trained_betas" and isinstance(value, list):
            found.setdefault(key, "of its own")
        elif key == "_class_name" and "Scheduler" in str(value):
            found.setdefault(SCHEDULER, value)
        elif key in _KNOWN and isinstance(value, str | int | float) and value != "":
            found.setdefault(key, value)
        elif value is True and (kind := prediction_of(key)) and key not in _KINDS[kind]:
            found.setdefault("prediction", key)
    return found


def prediction_of(said: object) -> str | None:
    """What a network predicts, by any usual name of it: eps, v, x0, score, flow; or None."""
    word = said.lower().replace("-", "_").rpartition(".")[2] if isinstance(said, str) else ""
    names = (word, _AROUND.sub("", word))
    return next((k for k, words in _KINDS.items() if not set(names).isdisjoint(words)), None)


def claims_beside(path: Path) -> dict[str, Any]:
    """What plain files beside weights state: a config, arguments, a pipeline's scheduler."""
    found: dict[str, Any] = {}
    for name in _BESIDE:
        file = path.parent / name
        try:
            if not file.is_file() or file.stat().st_size > _MAX_BYTES:
                continue  # NOTE: a pipe would block
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, ValueError):
            continue
        data = _parsed(text)
        # NOTE: A search space beside the weights is what is compared with them.
        if not (isinstance(data, Mapping) and "backbone" in data):
            found = {**claims_in(data), **found}
    return found


def claims_of_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What the header of a safetensors file states."""
    return {**claims_in(metadata), **claims_in(metadata.get(CLAIMS_KEY, ""))}


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


def _parsed(text: str) -> object:
    """Plain data that a text holds as JSON or YAML; or the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if len(text) > _MAX_BYTES or not re.search(r":\s", text):
        return text
    findings = Findings("text")
    data = parse_document(text, findings).data
    return text if findings.problems else data


def _plain_values(content: object, depth: int) -> Iterator[tuple[str, object]]:
    """Keys in plain spelling and values of nested plain data, the outer ones first."""
    if isinstance(content, str):
        content = _parsed(content)
    if isinstance(content, argparse.Namespace):
        content = vars(content)
    if depth > _MAX_NESTING or not isinstance(content, Mapping | list | tuple):
        return
    items = content.items() if isinstance(content, Mapping) else enumerate(content)
    deeper: list[object] = []
    for key, value in items:
        value = _parsed(value) if isinstance(value, str) else value
        if isinstance(value, Mapping | argparse.Namespace | list | tuple):
            deeper.append(value)
        if isinstance(key, str):
            plain = key.lower().replace("-", "_").rpartition(".")[2]
            yield key if key in _KNOWN else plain, value
    for value in deeper:
        yield from _plain_values(value, depth + 1)

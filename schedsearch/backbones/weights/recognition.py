"""Recognises the backbone of a weights file from the shapes of its tensors."""

from __future__ import annotations

import dataclasses
from typing import Any

from schedsearch.backbones.shape_arguments import LABEL_ROWS, arguments_of
from schedsearch.backbones.weights.sit_files import TIME, as_sit, is_repa
from schedsearch.backbones.weights.weight_files import Weights
from schedsearch.config.backbone_arguments import FAMILIES, REGISTRY, merged_arguments
from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.settings import BackboneSettings


def recognise(weights: Weights, name: str | None = None) -> BackboneSettings:
    """Return the shortest section ``backbone`` that fits these weights.

    The last row of a DiT's label table is assumed to mean "no class", as in all released
    models. A search space can override this. A SiT has the shapes of a DiT, so it is recognised
    only by its name, by keys of REPA, or by what a conversion kept of them.

    Args:
        weights: Weights from a file.
        name: Registry name to check against; None searches for one.

    Raises:
        CheckpointError: If the weights do not belong to ``name``.
        ConfigError: If the name is unknown, or the shapes do not determine the backbone.
    """
    if name is not None and name not in REGISTRY:
        raise ConfigError(f"There is no backbone {name!r}. Known names: {', '.join(REGISTRY)}.")
    repa = is_repa(weights.state) or TIME in weights.claims
    if repa:
        weights = as_sit(weights)
    found = {**arguments_of(weights.state), **weights.stated}
    family = found.pop("family", None)
    if repa or (family == "dit" and name is not None and REGISTRY[name][0] == "sit"):
        family = "sit"
    if (rows := found.pop(LABEL_ROWS, None)) is not None:
        found["num_classes"] = rows - 1
    if family is None or (family != "uvit" and "input_size" not in found):
        raise ConfigError(
            f"The shapes in {weights.path} do not say which backbone they belong to. Name a "
            "search space that does with --space."
        )
    for candidate in [name] if name else REGISTRY:
        its_family, fixed = REGISTRY[candidate]
        if family == its_family and all(found.get(k, v) == v for k, v in fixed.items()):
            implied = dataclasses.asdict(FAMILIES[family](**merged_arguments(candidate, {})))
            config = {key: value for key, value in found.items() if value != implied[key]}
            return BackboneSettings(name=candidate, config=config)
    described = _described(family, found)
    if name is not None:
        raise CheckpointError(
            f"The checkpoint {weights.path} is not a {name}: by its shapes it is a {described}."
        )
    if "num_heads" in found:
        return BackboneSettings(family=family, config=found)
    raise ConfigError(
        f"The checkpoint {weights.path} is a {described}, which has no registry name. Name a "
        "search space with --space, because weights do not show their number of heads."
    )


def _described(family: str, arguments: dict[str, Any]) -> str:
    kind = {"dit": "DiT", "sit": "SiT", "uvit": "U-ViT"}[family]
    keys = ("hidden_size", "embed_dim", "depth", "patch_size")
    sizes = ", ".join(f"{key} {arguments[key]}" for key in keys if key in arguments)
    return f"{kind} with {sizes}"

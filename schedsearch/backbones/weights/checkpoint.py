"""Strict loading, atomic saving and fingerprints of network weights."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.registry import build_backbone
from schedsearch.backbones.sit import SiT
from schedsearch.backbones.weights.claims import remember
from schedsearch.backbones.weights.file_kinds import layout_of_file
from schedsearch.backbones.weights.sit_files import (
    HINT,
    as_sit,
    has_variances,
    variances_are_zero,
)
from schedsearch.backbones.weights.strict_match import check_finite, matched_state
from schedsearch.backbones.weights.weight_files import Weights, read_weights
from schedsearch.config.backbone_arguments import REGISTRY
from schedsearch.config.checkpoint_paths import locate_weights
from schedsearch.exceptions import CheckpointError
from schedsearch.files.atomic import replacing
from schedsearch.settings import BackboneSettings

FINGERPRINT = "schedsearch.fingerprint"
"""Key of a file's header: :func:`fingerprint_of` the values in it."""

logger = logging.getLogger(__name__)


def load_weights(net: nn.Module, checkpoint: str | Path) -> str | None:
    """Load weights strictly into a network, on its device and in its dtype.

    Args:
        net: Network that receives the weights.
        checkpoint: As for :func:`locate_weights`: releases and training files of DiT and
            U-ViT, safetensors, or a diffusers ``DiTTransformer2DModel``.

    Returns:
        What was chosen or changed while loading (EMA, prefixes, layout, dtype), or None.

    Raises:
        CheckpointError: If the file is damaged or belongs to another model.
    """
    weights = read_weights(locate_weights(checkpoint))
    check_fingerprint(weights.path)
    return fill(net, weights)


def load_backbone_from(
    settings: BackboneSettings, device: torch.device | str = "cpu"
) -> nn.Module:
    """Build the backbone of a search space and load its weights, in eval mode.

    Args:
        settings: Section ``backbone``. Without a checkpoint the weights are random, but equal
            in every process.
        device: Device of the model.

    Raises:
        ConfigError: If the backbone cannot be built.
        CheckpointError: If the weights do not fit.
    """
    if settings.checkpoint is None:
        return build_backbone(settings).to(device).eval()
    weights = read_weights(locate_weights(settings.checkpoint))
    check_fingerprint(weights.path)
    net = build_backbone(with_variances_of(settings, weights))
    if (note := fill(net, weights)) is not None:
        level = logging.WARNING if weights.passed_over else logging.INFO
        logger.log(level, "weights: %s", note)
    remember(net, weights.claims)
    return net.to(device).eval()


def fill(net: nn.Module, weights: Weights) -> str | None:
    """Load weights that are already in memory; otherwise as :func:`load_weights`."""
    if isinstance(net, SiT):
        weights = as_sit(weights)
    elif isinstance(net, DiT) and variances_are_zero(weights.state):
        logger.warning("%s %s", weights.path, HINT)
    state, notes = matched_state(net, weights)
    net.load_state_dict(state)
    check_finite(net, weights.path)
    own = net.state_dict()
    pairs = {(value.dtype, own[name].dtype) for name, value in state.items()}
    cast = sorted(f"{old} to {new}" for old, new in pairs if old != new)
    if cast:
        notes.append(f"converted from {', '.join(cast).replace('torch.', '')}")
    return "; ".join(notes) or None


def with_variances_of(settings: BackboneSettings, weights: Weights) -> BackboneSettings:
    """Let the weights of a SiT decide ``learn_sigma`` where the section does not.

    SiT's training script builds rows for variances, its sampling script expects none, and neither
    uses them.
    """
    found = has_variances(weights.state)
    family, _ = REGISTRY.get(settings.name or "", (settings.family, {}))
    if found is None or "learn_sigma" in settings.config or family != "sit":
        return settings
    return dataclasses.replace(settings, config={**settings.config, "learn_sigma": found})


def save_weights(net: nn.Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the weights of a network as safetensors, atomically.

    Args:
        net: Network to save.
        path: Target. An existing file stays until the new one is on disk.
        metadata: Entries for the file header, which also gets a fingerprint of the values.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    about = {**(metadata or {}), FINGERPRINT: fingerprint_of(state)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        # NOTE: Not save_file, which hides the operating system's error for a full disk.
        temporary.write_bytes(serialize(state, about))


def link_weights(net: nn.Module, source: Path, path: Path) -> bool:
    """Hard-link a file instead of saving the same weights again.

    Args:
        net: Network whose weights should be in ``path``.
        source: Safetensors file that may hold these weights.
        path: Link to create.

    Returns:
        Whether the link was created; False if the weights differ or the file system refuses.
    """
    state = net.state_dict()
    with safe_open(source, framework="pt") as file:
        if set(file.keys()) != set(state) or not all(
            torch.equal(file.get_tensor(name), value.detach().cpu())
            for name, value in state.items()
        ):
            return False
    try:
        with replacing(path) as temporary:
            temporary.unlink(missing_ok=True)
            temporary.hardlink_to(source)
    except OSError:
        return False
    return True


def metadata_of(path: Path) -> dict[str, str]:
    """What :func:`save_weights` noted in a file; empty for any other.

    Raises:
        CheckpointError: If it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        if layout_of_file(path) != "safetensors":
            return {}
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"Cannot read {path}: {error}. Restore it from a backup.") from error


def check_fingerprint(path: Path) -> None:
    """Compare the values of a file with the fingerprint that it was saved with, if any.

    Args:
        path: A file of weights that could be read, by content, whatever its ending.

    Raises:
        CheckpointError: If they differ.
    """
    try:
        metadata = metadata_of(path)
    except CheckpointError:
        return  # NOTE: reading says what is wrong with it
    if FINGERPRINT in metadata:
        read_whole(path)


def read_whole(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, compared with its fingerprint if it has one.

    Raises:
        CheckpointError: If it is damaged.
    """
    wanted = metadata_of(path).get(FINGERPRINT)
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"Cannot read {path}: {error}. Restore it from a backup.") from error
    if wanted is not None and fingerprint_of(state) != wanted:
        raise CheckpointError(
            f"{path} is damaged: its values are not those that were saved (see {FINGERPRINT} in "
            "its header). Restore it from a backup."
        )
    return state


def fingerprint(net: nn.Module) -> str:
    """SHA-256 over names, shapes, dtypes and values of a network's state."""
    return fingerprint_of(net.state_dict())


def fingerprint_of(state: Mapping[str, Tensor]) -> str:
    """As :func:`fingerprint`, for a state dict."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"

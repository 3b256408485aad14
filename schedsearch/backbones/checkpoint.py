"""Weights files: strict loading, atomic saving and fingerprints."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from schedsearch.backbones.registry import build_backbone
from schedsearch.exceptions import CheckpointError
from schedsearch.settings import BackboneSettings

PACKAGE_PREFIX = "package:"
"""Marks weights that ship with the package."""

NESTED_KEYS = ("ema", "model", "state_dict")
"""Where training scripts put weights; EMA first, because it is what samples."""

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""Left in front of every key by DistributedDataParallel and torch.compile."""

MAX_NAMED = 5
"""Mismatched keys that an error names."""


def resolve_checkpoint(checkpoint: str) -> Path:
    """The file behind a checkpoint setting.

    Args:
        checkpoint: A path, or ``package:NAME`` for weights that ship.

    Raises:
        CheckpointError: If there is no such file.
    """
    if checkpoint.startswith(PACKAGE_PREFIX):
        name = checkpoint.removeprefix(PACKAGE_PREFIX)
        shipped = resources.files("schedsearch.pretrained")
        names = sorted(
            entry.name for entry in shipped.iterdir() if entry.name.endswith(".safetensors")
        )
        if name not in names:
            raise CheckpointError(
                f"No weights named {name!r} ship with the package; "
                f"there are {', '.join(names) or 'none'}."
            )
        return Path(str(shipped / name))
    path = Path(checkpoint)
    if not path.is_file():
        raise CheckpointError(
            f"The checkpoint {path} is not a file. Give a .safetensors or .pt file, "
            f"or {PACKAGE_PREFIX}NAME for weights that ship."
        )
    return path


def load_weights(net: nn.Module, path: Path) -> str | None:
    """Load weights strictly into a network, on its device and in its dtype.

    Args:
        net: Network to fill.
        path: A safetensors file, or a ``.pt``/``.pth``/``.ckpt`` file of tensors.

    Returns:
        What was chosen where the file left a choice (EMA over raw weights), or None.

    Raises:
        CheckpointError: If the file is damaged or belongs to another model.
    """
    content = _read(path)
    weights, note = _choose_weights(content, path)
    weights = _strip_wrappers(weights)
    _check_match(net, weights, path)
    net.load_state_dict(weights)
    return note


def save_weights(net: nn.Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the weights of a network as safetensors, whole or not at all.

    Args:
        net: Network to write.
        path: Target; an older file there stays until the new one is on disk.
        metadata: Text for the header of the file.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(serialize(state, dict(metadata or {})))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_backbone_from(
    settings: BackboneSettings, device: torch.device | str = "cpu"
) -> nn.Module:
    """The backbone of a search space with its weights, in eval mode.

    Args:
        settings: Section ``backbone``; without a checkpoint the weights are random, but the
            same in every process.
        device: Where the model goes.

    Raises:
        ConfigError: If the backbone cannot be built; CheckpointError if its weights are wrong.
    """
    net = build_backbone(settings)
    if settings.checkpoint is not None:
        load_weights(net, resolve_checkpoint(settings.checkpoint))
    return net.to(device).eval()


def fingerprint(net: nn.Module) -> str:
    """Digest of names, shapes, dtypes and values of a network's state."""
    return fingerprint_of(net.state_dict())


def fingerprint_of(state: Mapping[str, Tensor]) -> str:
    """The same of a state dict, for example of a weights file."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def _read(path: Path) -> Mapping[str, object]:
    """Content of a weights file; never runs code from it."""
    try:
        if path.stat().st_size == 0:
            raise CheckpointError(f"The checkpoint {path} is empty; copy or download it again.")
        if path.suffix == ".safetensors":
            return load_file(path)
        # weights_only refuses everything but plain data, so a file cannot run code here.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"The checkpoint {path} is damaged or holds more than tensors, which is refused "
            "because it could run code. Save its state dict alone, best as safetensors."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be read ({_first_line(error)}). It may be cut off: "
            "compare its size with the source and copy it again."
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"The checkpoint {path} holds a {type(content).__name__}, not a state dict."
        )
    return content


def _choose_weights(
    content: Mapping[str, object], path: Path
) -> tuple[dict[str, Tensor], str | None]:
    nested = [key for key in NESTED_KEYS if isinstance(content.get(key), Mapping)]
    note = None
    if nested:
        chosen = content[nested[0]]
        assert isinstance(chosen, Mapping)
        note = f"{path.name} holds {', '.join(nested)}; {nested[0]!r} was loaded"
        content = chosen
    weights = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise CheckpointError(
            f"The checkpoint {path} holds no tensors at its top level; "
            f"its keys are {_name_some(list(content))}."
        )
    return weights, note


def _strip_wrappers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    stripped = True
    while stripped:  # both wrappers may be nested in either order
        stripped = False
        for prefix in WRAPPER_PREFIXES:
            if all(name.startswith(prefix) for name in weights):
                weights = {name.removeprefix(prefix): value for name, value in weights.items()}
                stripped = True
    return weights


def _check_match(net: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    own = net.state_dict()
    missing = [name for name in own if name not in weights]
    unexpected = [name for name in weights if name not in own]
    wrong_shape = [
        f"{name} (file {tuple(weights[name].shape)}, model {tuple(value.shape)})"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    found = [
        f"{len(names)} {kind}: {_name_some(names)}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", wrong_shape),
        )
        if names
    ]
    if found:
        raise CheckpointError(
            f"The checkpoint {path} belongs to another model. Keys {'; '.join(found)}. "
            "Compare the section 'backbone' with the model that the file was saved from."
        )


def _name_some(names: list[str]) -> str:
    rest = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]

"""The file of weights behind a checkpoint setting.

A checkpoint is a file, a U-ViT training folder, a diffusers folder, or ``package:NAME``. A file or
folder that holds several sets of weights takes a suffix: ``net.pt#model``. No torch here, so
``check`` stays fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from schedsearch.config.paths import PACKAGE_PREFIX
from schedsearch.exceptions import CheckpointError
from schedsearch.files.content import why_not_a_file, why_not_a_folder

CHOICES = ("ema", "model", "state_dict")
"""Usual names of sets of weights, the first to prefer: EMA samples better."""

UVIT_FILES = {"ema": "nnet_ema.pth", "model": "nnet.pth"}
"""Weights in a training folder of U-ViT (``N.ckpt``); its code writes the EMA last."""

_ENDINGS = frozenset((".safetensors", ".pt", ".pth", ".bin", ".ckpt"))
_NAMED = 5

DIFFUSERS_STEM = "diffusion_pytorch_model"
"""Name of the weights in a diffusers folder, beside ``config.json``."""


@dataclass(frozen=True, slots=True)
class WeightsLocation:
    """Where weights lie, and which of several."""

    path: Path
    """The file to read."""
    choice: str | None = None
    """Name of a set of weights, for a file that holds several."""
    diffusers_config: Path | None = None
    """``config.json`` of a diffusers folder."""
    note: str | None = None
    """Which file was loaded where a folder holds several."""


def split_choice(checkpoint: str) -> tuple[Path, str | None]:
    """Separate ``path#choice``; a ``#`` in the name of an existing file belongs to it."""
    path, mark, choice = checkpoint.rpartition("#")
    if not mark or not choice or Path(checkpoint).exists():
        return Path(checkpoint), None
    if choice in CHOICES or Path(path).exists():
        return Path(path), choice
    return Path(checkpoint), None


def locate_weights(checkpoint: str | Path) -> WeightsLocation:
    """The file behind a checkpoint.

    Args:
        checkpoint: A file, a training folder of U-ViT (``N.ckpt`` with ``nnet_ema.pth``), or a
            folder of a diffusers model or pipeline; ``#ema``, ``#model`` or another name
            behind it chooses one of several sets of weights. ``package:NAME`` names weights
            that ship.

    Raises:
        CheckpointError: If it does not exist, or the folder is incomplete or of another kind.
    """
    text = str(checkpoint)
    if not text:
        raise CheckpointError("The name of the checkpoint is empty.")
    if text.startswith(PACKAGE_PREFIX):
        return WeightsLocation(_shipped(text.removeprefix(PACKAGE_PREFIX)))
    path, choice = split_choice(text)
    reason = why_not_a_file(path)
    if reason is None:
        config = path.parent / "config.json"
        beside = path.name.startswith(DIFFUSERS_STEM) and config.is_file()
        return WeightsLocation(path, choice, config if beside else None)
    if why_not_a_folder(path) is not None:
        raise CheckpointError(
            f"The checkpoint cannot be read: {reason}. Give a .safetensors or .pt file, a "
            "training folder of U-ViT, a diffusers folder, or package:NAME for weights that ship."
        )
    if (path / "config.json").is_file():
        return _in_diffusers_folder(path, choice)
    if (path / "transformer" / "config.json").is_file():
        return _in_diffusers_folder(path / "transformer", choice)
    if any((path / name).is_file() for name in (*UVIT_FILES.values(), "step.pth")):
        return _in_training_folder(path, choice)
    raise CheckpointError(_why_no_checkpoint(path))


def _shipped(name: str) -> Path:
    folder = resources.files("schedsearch") / "pretrained"
    names = sorted(f.name for f in folder.iterdir() if f.name.endswith(".safetensors"))
    if name not in names:
        raise CheckpointError(
            f"No weights named {name!r} ship with schedsearch; there are {', '.join(names)}."
        )
    return Path(str(folder / name))


def _in_training_folder(folder: Path, choice: str | None) -> WeightsLocation:
    chosen = choice or "ema"
    if chosen not in UVIT_FILES:
        raise CheckpointError(
            f"The training folder {folder} has no {chosen!r}. Use #ema or #model, or no suffix."
        )
    file = folder / UVIT_FILES[chosen]
    if not file.is_file():
        other = next((c for c, name in UVIT_FILES.items() if (folder / name).is_file()), None)
        use = f", or name {folder}#{other} for {UVIT_FILES[other]}" if other else ""
        raise CheckpointError(
            f"The training folder {folder} is incomplete: it has no {file.name}, as after a "
            f"crash while saving. Take an earlier folder{use}."
        )
    note = None
    if choice is None and (folder / UVIT_FILES["model"]).is_file():
        note = (
            f"{folder.name} holds {' and '.join(UVIT_FILES.values())}; {file.name} was loaded "
            "(#model takes the other)"
        )
    return WeightsLocation(file, note=note)


def _in_diffusers_folder(folder: Path, choice: str | None) -> WeightsLocation:
    for suffix in (".safetensors", ".bin"):
        file = folder / f"{DIFFUSERS_STEM}{suffix}"
        if file.is_file():
            return WeightsLocation(file, choice, folder / "config.json")
        index = folder / f"{DIFFUSERS_STEM}{suffix}.index.json"
        if index.is_file():
            return WeightsLocation(index, choice, folder / "config.json")
    raise CheckpointError(
        f"The diffusers folder {folder} has no {DIFFUSERS_STEM}.safetensors; "
        f"{_what_to_name(folder) or 'copy the folder again'}."
    )


def _why_no_checkpoint(folder: Path) -> str:
    steps = [entry for entry in folder.glob("*.ckpt") if entry.stem.isdecimal()]
    if steps:
        newest = max(steps, key=lambda entry: int(entry.stem))
        return (
            f"{folder} holds {len(steps)} training folders of U-ViT. Name one of them; the newest "
            f"is {newest}."
        )
    parts = ("*.distcp", "*/*.distcp", "mp_rank_*", "*/mp_rank_*")
    if any(any(folder.glob(pattern)) for pattern in parts):
        return (
            f"{folder} holds the parts of a distributed training (FSDP or DeepSpeed). Join them: "
            "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE`, or "
            "DeepSpeed's zero_to_fp32.py."
        )
    return (
        f"{folder} is a folder, but neither a training folder of U-ViT (nnet_ema.pth) nor a "
        f"diffusers model (config.json); {_what_to_name(folder) or 'name the file of weights'}."
    )


def _what_to_name(folder: Path) -> str:
    """The files and model folders in a folder that a user may have meant."""
    found = sorted(
        entry.name if entry.is_file() else f"{entry.name}/"
        for entry in folder.iterdir()
        if entry.suffix.lower() in _ENDINGS or (entry / "config.json").is_file()
    )
    more = ", ..." if len(found) > _NAMED else ""
    return f"name one of its files: {', '.join(found[:_NAMED])}{more}" if found else ""

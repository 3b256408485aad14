"""Converts weights between layouts by loading them into their network.

Loading is strict, so a converted file always fits its backbone. Its fingerprint equals the one
that runs record.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as serialize
from torch import nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.registry import build_backbone
from schedsearch.backbones.sit import SiT
from schedsearch.backbones.weights.checkpoint import (
    fill,
    fingerprint,
    save_weights,
    with_variances_of,
)
from schedsearch.backbones.weights.claim_sources import CLAIMS_KEY
from schedsearch.backbones.weights.diffusers_dit import (
    SHIFT_KEY,
    check_positions,
    diffusers_state,
    transformer_config,
)
from schedsearch.backbones.weights.recognition import recognise
from schedsearch.backbones.weights.sit_files import TIME
from schedsearch.backbones.weights.weight_files import read_weights
from schedsearch.config.checkpoint_paths import DIFFUSERS_STEM, locate_weights
from schedsearch.exceptions import ConfigError
from schedsearch.files.atomic import replacing, replacing_folder, write_text
from schedsearch.files.targets import check_target
from schedsearch.settings import BackboneSettings

Layout = Literal["safetensors", "diffusers", "official"]

_BY_SUFFIX: dict[str, Layout] = {
    ".safetensors": "safetensors",
    ".pt": "official",
    ".pth": "official",
    "": "diffusers",
}

DIFFUSERS_FILES = {"config.json", f"{DIFFUSERS_STEM}.safetensors", "README.md"}
"""Files of an exported folder. A folder with any other file is never replaced."""

_README = """\
# {name} in diffusers' layout

Written by schedsearch from `{source}`; the weights keep the licence of their source.
Fingerprint in the official layout: `{fingerprint}`.

These weights need the official time embedding of DiT. diffusers computes another one
(`downscale_freq_shift` 1 instead of 0) and has no setting for it. So patch the model after
loading it. Without the patch it runs, but its predictions are wrong.

```python
from diffusers import DiTTransformer2DModel

transformer = DiTTransformer2DModel.from_pretrained("THIS FOLDER")
for block in transformer.transformer_blocks:
    block.norm1.emb.time_proj.downscale_freq_shift = 0
```

`schedsearch.backbones.weights.diffusers_dit.patch_time_embedding(transformer)` does the same.
{labels}"""

_LAST_LABEL = """
This model has no label for "no class": the last row of the label table is a class. Do not train
it with label dropout in diffusers, and do not sample it with guidance.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What a conversion wrote."""

    backbone: BackboneSettings
    num_tensors: int
    num_values: int
    dtype: str
    fingerprint: str
    """Fingerprint of the weights in the official layout, whatever the layout of the file."""
    note: str | None
    """What was chosen or changed while reading."""


def layout_of(target: Path) -> Layout:
    """Return the layout that the suffix of a target stands for.

    Raises:
        ConfigError: If the suffix is unknown.
    """
    if (suffix := target.suffix.lower()) not in _BY_SUFFIX:
        raise ConfigError(
            f"The name {target} does not say which layout is wanted. End it in .safetensors, .pt "
            "or .pth, or give --to."
        )
    return _BY_SUFFIX[suffix]


def convert(
    checkpoint: str,
    target: Path,
    layout: Layout,
    *,
    backbone: BackboneSettings | str | None = None,
    force: bool = False,
) -> Conversion:
    """Read weights, check them against their backbone, and write them.

    Args:
        checkpoint: As for :func:`~schedsearch.config.checkpoint_paths.locate_weights`.
        target: File to write; a folder for ``diffusers``.
        layout: ``safetensors`` and ``official`` (a ``.pt`` file for the official code) have the
            official names; ``diffusers`` is a ``DiTTransformer2DModel``.
        backbone: The section of a search space, or a registry name with the other arguments
            read from the weights. None recognises the name too.
        force: Replace an existing target.

    Raises:
        CheckpointError: If the weights are damaged or belong to another backbone.
        ConfigError: If the target exists or cannot be written, or diffusers has no such model.
    """
    _check_target(target, layout, force=force)
    weights = read_weights(locate_weights(checkpoint))
    if isinstance(backbone, BackboneSettings):
        settings = with_variances_of(backbone, weights)
    else:
        settings = recognise(weights, backbone)
    net = build_backbone(settings)
    note = fill(net, weights)
    source, digest = weights.path.name, fingerprint(net)
    if layout == "diffusers":
        _write_diffusers(net, target, settings.name or "DiT", source, digest)
    elif layout == "official":
        _write_official(net, target)
        if TIME in weights.claims:
            silent = f"{target.name} does not say that it is REPA's; a .safetensors file would"
            note = "; ".join(filter(None, (note, silent)))
    else:
        section = {k: v for k, v in dataclasses.asdict(settings).items() if k != "checkpoint"}
        said = {CLAIMS_KEY: json.dumps(dict(weights.claims))} if weights.claims else {}
        save_weights(net, target, {"backbone": json.dumps(section), "source": source, **said})
    state = net.state_dict()
    return Conversion(
        backbone=settings,
        num_tensors=len(state),
        num_values=sum(value.numel() for value in state.values()),
        dtype=", ".join(sorted({str(v.dtype).removeprefix("torch.") for v in state.values()})),
        fingerprint=digest,
        note=note,
    )


def _check_target(target: Path, layout: Layout, *, force: bool) -> None:
    if layout != "diffusers":
        check_target(target)
        meant = _BY_SUFFIX.get(target.suffix.lower(), layout)
        if target.suffix and meant != layout:
            raise ConfigError(
                f"Cannot write {target}: {target.suffix} means the layout {meant}, but {layout} "
                "is wanted. Choose another ending, or leave out --to."
            )
        if target.exists() and not force:
            raise ConfigError(f"{target} exists already. Choose another name, or give --force.")
        return
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"Cannot write {target}: there is no folder {target.parent}. Make it.")
    if os.path.lexists(target) and not target.is_dir():
        raise ConfigError(f"Cannot write {target}: it is a file, and diffusers needs a folder.")
    inside = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    if strange := sorted(inside - DIFFUSERS_FILES):
        raise ConfigError(
            f"The folder {target} holds other files ({strange[0]}) and is not replaced. Choose "
            "another name."
        )
    if inside and not force:
        raise ConfigError(f"{target} exists already. Choose another name, or give --force.")


def _write_official(net: nn.Module, target: Path) -> None:
    state = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    content = io.BytesIO()  # NOTE: torch.save to a full disk would hide the system's error
    torch.save(state, content)
    with replacing(target) as temporary:
        temporary.write_bytes(content.getbuffer())


def _write_diffusers(net: nn.Module, target: Path, name: str, source: str, digest: str) -> None:
    if not isinstance(net, DiT) or isinstance(net, SiT):
        raise ConfigError(
            f"diffusers has no class for a {type(net).__name__}; only DiT can be converted to it. "
            "Convert to safetensors instead."
        )
    readme = _README.format(
        name=name,
        source=source,
        fingerprint=digest,
        labels="" if net.null_label is not None else _LAST_LABEL,
    )
    with replacing_folder(target) as folder:
        write_transformer(net, folder, source, digest)
        write_text(folder / "README.md", readme)


def write_transformer(net: DiT, folder: Path, source: str, digest: str) -> None:
    """Write config and weights of the equivalent ``DiTTransformer2DModel`` into a folder.

    Args:
        net: The network.
        folder: An existing folder.
        source: Where the weights come from, for the header of the file.
        digest: Their fingerprint in the official layout.

    Raises:
        ConfigError: If diffusers has no such model.
    """
    config = transformer_config(net)
    check_positions(net)
    state = {
        key: value.detach().clone() for key, value in diffusers_state(net.state_dict()).items()
    }
    metadata = {"format": "pt", SHIFT_KEY: "0", "source": source, "fingerprint": digest}
    _save_config(config, folder)
    with replacing(folder / f"{DIFFUSERS_STEM}.safetensors") as temporary:
        temporary.write_bytes(serialize(state, metadata))


def _save_config(config: Mapping[str, Any], folder: Path) -> None:
    """Write the config with diffusers, which adds its version and defaults."""
    from diffusers import DiTTransformer2DModel

    with torch.device("meta"):
        DiTTransformer2DModel(**config).save_config(folder)

"""Checks what a wheel holds: the packages with their data, and nothing else."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

PACKAGES = {"schedsearch", "trainers", "search_spaces"}
WANTED = {
    "schedsearch/py.typed",
    "schedsearch/pretrained/digits_cnn.safetensors",
    "schedsearch/pretrained/digits_dit.safetensors",
    "schedsearch/pretrained/digits_mlp.safetensors",
    "schedsearch/pretrained/mnist_cnn.safetensors",
    "schedsearch/pretrained/tiles_cnn.safetensors",
    "schedsearch/pretrained/tiles_resnet.safetensors",
    "search_spaces/digits_dit.yaml",
    "search_spaces/dit_xl2_imagenet256.yaml",
    "search_spaces/sit_xl2_imagenet256.yaml",
    "trainers/ase.py",
    "trainers/py.typed",
    "trainers/recipes/ase_dit.yaml",
    "trainers/recipes/ase_uvit.yaml",
}
MAX_MEGABYTES = 20


def problems_of(wheel: Path) -> list[str]:
    """What is missing from a wheel, or has no business in it."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    top = {name.partition("/")[0] for name in names}
    strangers = {name for name in top - PACKAGES if not name.endswith(".dist-info")}
    found = [f"lacks {name}" for name in sorted(WANTED - names)]
    found += [f"holds {name}" for name in sorted(strangers)]
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        found.append("lacks the licence")
    if (size := wheel.stat().st_size / 1e6) > MAX_MEGABYTES:
        found.append(f"has {size:.1f} MB, more than {MAX_MEGABYTES}")
    return found


def main() -> int:
    """Print the problems of the wheel that the command line names."""
    wheel = Path(sys.argv[1])
    problems = problems_of(wheel)
    for problem in problems:
        print(f"{wheel.name} {problem}", file=sys.stderr)
    if not problems:
        print(f"{wheel.name}: complete, {wheel.stat().st_size / 1e6:.1f} MB")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())

"""Method files: one calibrated method with its measurements and its origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from schedsearch.exceptions import ConfigError
from schedsearch.files.portable import check_weights_path, read_portable, write_portable
from schedsearch.files.printable import ONE_LINE
from schedsearch.files.validation import validate
from schedsearch.schedules.schedule_file import ScheduledBackbone

SCHEMA = "schedsearch.method/1"
"""Value of the key ``schema``; the number changes when old readers would misread a file."""

WHAT = "method file"

REMEDY = "Make one for this setting with `schedsearch plan` or `schedsearch compare`."

Kind = Literal[
    "schedule",
    "steps",
    "fitted_steps",
    "uncertainty",
    "similarity",
    "tome",
    "block_cache",
    "residual_cache",
    "stitch",
    "plan",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFile:
    """A method file (schema ``schedsearch.method/1``)."""

    name: Annotated[str, Field(pattern=ONE_LINE)]
    kind: Kind
    """How the network is called; what was cut out of a network stands in ``network``."""
    backbone: ScheduledBackbone
    solver: str | None = None
    """Solver that the numbers were made for; None fits all."""
    num_steps: Annotated[int, Field(ge=1)] | None = None
    """Solver steps that the numbers are bound to; None fits all."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """Thresholds, periods, plans: the arguments of the method."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """How the network differs from the backbone; empty for the backbone itself."""
    weights: str | None = None
    """Weights beside the file: of the network, or what the method adds to it."""
    weights_sha256: str | None = None
    """Digest of that file."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


def write_method_file(path: str | Path, content: MethodFile, *, place: str | None = None) -> None:
    """Write a method file atomically, with keys in fixed order.

    Args:
        path: File to write or replace.
        content: The method.
        place: What the checksum of a file in a run folder says; None leaves it out.

    Raises:
        ValueError: If a number is not finite or a path is absolute.
        ConfigError: If ``path`` cannot be written.
    """
    data: dict[str, Any] = {"schema": SCHEMA}
    for key, value in asdict(content).items():
        if key == "backbone":
            data[key] = {name: item for name, item in value.items() if item is not None}
        elif value not in (None, {}):
            data[key] = value
    write_portable(path, data, WHAT, place=place)


def read_method_file(path: str | Path, place: str | None = None) -> MethodFile:
    """Read and validate a method file.

    Args:
        path: The file.
        place: What its checksum must say, as that of a run's own file; None takes any.

    Raises:
        InvalidFileError: If the file has mistakes; it lists all of them with their lines.
        ConfigError: If the file cannot be read.
    """
    content, findings = read_portable(path, SCHEMA, WHAT, place=place)
    valid, file = validate(MethodFile, content, (), findings)
    if valid:
        check_weights_path(file.weights, WHAT, findings)
    findings.raise_if_any()
    assert isinstance(file, MethodFile)
    return file


def check_fits(
    file: MethodFile,
    path: str | Path,
    *,
    num_exit_blocks: int,
    family: str | None,
    solver: str,
    num_steps: int,
) -> None:
    """Refuse a method that belongs to another model, solver or number of steps.

    Args:
        file: The method.
        path: Where it was read, for messages.
        num_exit_blocks: Exit blocks of the model.
        family: ``dit``, ``uvit``, or None for a custom class, which takes any method.
        solver: Name of the solver that will run it.
        num_steps: Its steps.

    Raises:
        ConfigError: With what does not fit.
    """
    theirs = file.backbone
    if theirs.num_exit_blocks != num_exit_blocks:
        reason = f"{theirs.num_exit_blocks} exit blocks, but the backbone has {num_exit_blocks}"
    elif family is not None and theirs.family != family:
        reason = f"the family {theirs.family}, but the backbone is a {family}"
    else:
        check_solver(file, path, solver=solver, num_steps=num_steps)
        return
    raise ConfigError(f"{path}: the method is for {reason}. {REMEDY}")


def check_solver(file: MethodFile, path: str | Path, *, solver: str, num_steps: int) -> None:
    """Refuse a method that belongs to another solver or number of steps.

    Args:
        file: The method.
        path: Where it was read, for messages.
        solver: Name of the solver that will run it.
        num_steps: Its steps.

    Raises:
        ConfigError: With what does not fit.
    """
    if file.solver is not None and file.solver != solver:
        reason = f"the solver {file.solver}, but got {solver}"
    elif file.num_steps is not None and file.num_steps != num_steps:
        reason = f"{file.num_steps} solver steps, but the solver takes {num_steps}"
    else:
        return
    raise ConfigError(f"{path}: the method is for {reason}. {REMEDY}")

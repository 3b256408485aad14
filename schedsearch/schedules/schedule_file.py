"""Schedule files: one exit schedule with its measurements and its origin."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any

from pydantic import Field

from schedsearch.exceptions import ConfigError
from schedsearch.files.atomic import write_text
from schedsearch.files.problems import Findings, KeyPath, dotted, shown
from schedsearch.files.strict_yaml import parse_document, read_limited
from schedsearch.files.validation import validate
from schedsearch.files.yaml_writer import dump_yaml
from schedsearch.schedules.exit_schedule import ExitSchedule

SCHEMA = "schedsearch.schedule/1"
"""Value of the key ``schema``; the number changes when old readers would misread a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledBackbone:
    """The model of a schedule."""

    family: str
    """``dit``, ``uvit``, or the import string of a class."""
    num_exit_blocks: Annotated[int, Field(ge=1)]
    fingerprint: str | None = None
    """``sha256:...`` of the measured weights, if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFile:
    """A schedule file (schema ``schedsearch.schedule/1``)."""

    name: Annotated[str, Field(min_length=1)]
    backbone: ScheduledBackbone
    depths: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Blocks to run per equal interval of diffusion time, from data to noise."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    """Fine-tuned weights, relative to the file."""

    @property
    def schedule(self) -> ExitSchedule:
        """The exit schedule with these depths."""
        return ExitSchedule(self.depths)


def lowest_depth(family: str | None) -> int:
    """Return the smallest exit depth of a family: 1 for DiT, else 0.

    A U-ViT always runs its encoder and middle block, so it can run without decoder blocks. The
    same may hold for a custom class.

    Args:
        family: ``dit``, ``uvit``, an import string, or None.
    """
    return int(family == "dit")


# ---- writing ----------------------------------------------------------------------------------

ABSOLUTE = re.compile(r"(?:^|[\s=:,'\"(])(?:~?/|[A-Za-z]:[\\/])[\w.]")
"""Matches text with an absolute path, which may contain a user's name."""


def write_schedule_file(path: str | Path, content: ScheduleFile) -> None:
    """Write a schedule file atomically, with keys in fixed order.

    Args:
        path: File to write or replace.
        content: Plain data with finite numbers and without absolute paths.

    Raises:
        ValueError: If ``content`` breaks one of these rules.
        ConfigError: If ``path`` cannot be written.
    """
    for key, value in _leaves(_data(content), ()):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"A schedule file holds finite numbers, but {key} is {value}.")
        if isinstance(value, str) and ABSOLUTE.search(value):
            raise ValueError(
                f"A schedule file is passed on, so it holds no absolute path, but {key} is "
                f"{value!r}."
            )
    try:
        write_text(Path(path), dump_yaml(_data(content)))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}.") from error


def _data(content: ScheduleFile) -> dict[str, Any]:
    backbone: dict[str, Any] = {
        "family": content.backbone.family,
        "num_exit_blocks": content.backbone.num_exit_blocks,
    }
    if content.backbone.fingerprint is not None:
        backbone["fingerprint"] = content.backbone.fingerprint
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "name": content.name,
        "backbone": backbone,
        "depths": list(content.depths),
    }
    for key in ("measured", "provenance", "weights"):
        if value := getattr(content, key):
            data[key] = _plain(value)
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, (*path, key))
    else:
        yield dotted(path), value


# ---- reading ----------------------------------------------------------------------------------


def read_schedule_file(path: str | Path) -> ScheduleFile:
    """Read and validate a schedule file.

    Raises:
        InvalidFileError: If the file has mistakes; it lists all of them with their lines.
        ConfigError: If the file cannot be read.
    """
    findings = Findings(str(path))
    document = parse_document(read_limited(Path(path).expanduser()), findings)
    data = document.data
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        if not findings.problems:
            _add_wrong_schema(data, findings)
        findings.raise_if_any()
    content = {key: value for key, value in data.items() if key != "schema"}
    valid, file = validate(ScheduleFile, content, (), findings)
    if valid:
        _check_depths(file, findings)
        _check_weights(file.weights, findings)
    findings.raise_if_any()
    assert isinstance(file, ScheduleFile)
    return file


def load_schedule(path: str | Path) -> ExitSchedule:
    """Read the exit schedule from a schedule file.

    Raises:
        ConfigError: If the file cannot be read or is not valid.
    """
    return read_schedule_file(path).schedule


def _add_wrong_schema(data: Any, findings: Findings) -> None:
    found = data.get("schema") if isinstance(data, dict) else None
    if isinstance(found, str) and found.startswith("schedsearch.schedule/"):
        reason, remedy = f"unknown version {found!r}", "update schedsearch to read it"
    else:
        reason = "not a schedule file" if found is None else f"unknown schema {shown(found)}"
        remedy = f"a schedule file begins with 'schema: {SCHEMA}'"
    findings.add(() if found is None else ("schema",), reason, remedy)


def _check_depths(file: ScheduleFile, findings: Findings) -> None:
    low, high = lowest_depth(file.backbone.family), file.backbone.num_exit_blocks
    for i, depth in enumerate(file.depths):
        if not low <= depth <= high:
            findings.add(
                ("depths", i), f"must be in [{low}, {high}], the exit blocks, got {depth}"
            )


def _check_weights(weights: str | None, findings: Findings) -> None:
    if weights is None:
        return
    path = PurePosixPath(weights)
    if path.is_absolute() or PureWindowsPath(weights).is_absolute() or ".." in path.parts:
        findings.add(
            ("weights",),
            f"must be a path inside the folder of the file, got {shown(weights)}",
            "put the weights beside the schedule file",
        )

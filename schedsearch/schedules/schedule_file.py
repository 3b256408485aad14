"""Schedule files: one exit schedule with its measurements and its origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from schedsearch.files.portable import check_weights_path, read_portable, write_portable
from schedsearch.files.printable import ONE_LINE
from schedsearch.files.problems import Findings
from schedsearch.files.validation import validate
from schedsearch.schedules.clocks import Clock
from schedsearch.schedules.edges import why_no_edges
from schedsearch.schedules.exit_schedule import ExitSchedule

SCHEMA = "schedsearch.schedule/1"
"""Value of the key ``schema``; the number changes when old readers would misread a file."""

SCHEMA_2 = "schedsearch.schedule/2"
"""Schema of files with ``edges`` or ``clock: flow``."""

WHAT = "schedule file"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledBackbone:
    """The model of a schedule."""

    family: str
    """``dit``, ``sit``, ``uvit``, or the import string of a class."""
    num_exit_blocks: Annotated[int, Field(ge=1)]
    fingerprint: str | None = None
    """``sha256:...`` of the measured weights, if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFile:
    """A schedule file (schema ``schedsearch.schedule/1`` or ``/2``)."""

    name: Annotated[str, Field(pattern=ONE_LINE)]
    backbone: ScheduledBackbone
    depths: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Blocks to run per interval of diffusion time, from data to noise."""
    edges: tuple[float, ...] | None = None
    """Edges of the intervals, from 0 to 1000; None for equal ones."""
    clock: Clock = "ddpm"
    """Process whose times the clock counts."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    """Fine-tuned weights, relative to the file."""

    @property
    def schedule(self) -> ExitSchedule:
        """The exit schedule with these depths, edges and clock."""
        return ExitSchedule(self.depths, self.edges, self.clock)

    @property
    def schema(self) -> str:
        """The schema that the file needs."""
        return SCHEMA if self.edges is None and self.clock == "ddpm" else SCHEMA_2


def lowest_depth(family: str | None) -> int:
    """Return the smallest exit depth of a family: 1 for DiT and SiT, else 0.

    A U-ViT always runs its encoder and middle block, so it can run without decoder blocks. The
    same may hold for a custom class.

    Args:
        family: ``dit``, ``sit``, ``uvit``, an import string, or None.
    """
    return int(family in ("dit", "sit"))


# ---- writing ----------------------------------------------------------------------------------


def write_schedule_file(
    path: str | Path, content: ScheduleFile, *, place: str | None = None
) -> None:
    """Write a schedule file atomically, with keys in fixed order.

    Args:
        path: File to write or replace.
        content: Plain data with finite numbers and without absolute paths.
        place: What the checksum of a file in a run folder says; None leaves it out.

    Raises:
        ValueError: If ``content`` breaks one of these rules.
        ConfigError: If ``path`` cannot be written.
    """
    write_portable(path, _data(content), WHAT, place=place)


def _data(content: ScheduleFile) -> dict[str, Any]:
    backbone: dict[str, Any] = {
        "family": content.backbone.family,
        "num_exit_blocks": content.backbone.num_exit_blocks,
    }
    if content.backbone.fingerprint is not None:
        backbone["fingerprint"] = content.backbone.fingerprint
    data: dict[str, Any] = {
        "schema": content.schema,
        "name": content.name,
        "backbone": backbone,
        "depths": list(content.depths),
    }
    if content.edges is not None:
        data["edges"] = list(content.edges)
    if content.clock != "ddpm":
        data["clock"] = content.clock
    for key in ("measured", "provenance", "weights"):
        if value := getattr(content, key):
            data[key] = value
    return data


# ---- reading ----------------------------------------------------------------------------------


def read_schedule_file(path: str | Path, place: str | None = None) -> ScheduleFile:
    """Read and validate a schedule file.

    Args:
        path: The file.
        place: What its checksum must say, as that of a run's own file; None takes any.

    Raises:
        InvalidFileError: If the file has mistakes; it lists all of them with their lines.
        ConfigError: If the file cannot be read.
    """
    content, findings = read_portable(path, SCHEMA, WHAT, newer=(SCHEMA_2,), place=place)
    schema = content.pop("schema")
    valid, file = validate(ScheduleFile, content, (), findings)
    if valid:
        _check_depths(file, findings)
        _check_clock(file, schema, findings)
        check_weights_path(file.weights, WHAT, findings)
    findings.raise_if_any()
    assert isinstance(file, ScheduleFile)
    return file


def load_schedule(path: str | Path) -> ExitSchedule:
    """Read the exit schedule from a schedule file.

    Raises:
        ConfigError: If the file cannot be read or is not valid.
    """
    return read_schedule_file(path).schedule


def _check_depths(file: ScheduleFile, findings: Findings) -> None:
    low, high = lowest_depth(file.backbone.family), file.backbone.num_exit_blocks
    for i, depth in enumerate(file.depths):
        if not low <= depth <= high:
            findings.add(
                ("depths", i), f"must be in [{low}, {high}], the exit blocks, got {depth}"
            )


def _check_clock(file: ScheduleFile, schema: str, findings: Findings) -> None:
    if schema != file.schema == SCHEMA_2:
        reason = f"edges and clock: flow need another schema than {schema}"
        findings.add(("schema",), reason, f"write schema: {SCHEMA_2}")
    if file.edges is not None and (why := why_no_edges(file.edges, len(file.depths))) is not None:
        findings.add(("edges",), why)

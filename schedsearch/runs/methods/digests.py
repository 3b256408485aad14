"""What a row of a comparison depends on, as a digest: another one makes it run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from schedsearch.config.backbone_rules import num_exit_blocks_of, shipped_family
from schedsearch.runs.methods.records import RivalRecord
from schedsearch.settings import StudySettings
from schedsearch.settings.plan import PLAN, PlanSettings
from schedsearch.settings.rivals import RivalSettings, StitchRival
from schedsearch.settings.rows import (
    FULL,
    PRESETS,
    TWIN,
    Row,
    completed_rivals,
    decides_by_batch,
    entry_of,
    rows_of,
)

POINTS = (
    "targets", "target_blocks", "thresholds", "every", "ratios", "schedules", "num_steps",
    "shares", "depth", "width", "penalties",
)  # fmt: skip
"""Lists of operating points: a further one does not change the others."""

DECISIONS = ("decide", "pair", "patience")
"""What only sampling reads."""


def rivals_in(settings: StudySettings) -> dict[str, RivalSettings]:
    """The entries of a space, with its plans and those that every comparison has."""
    plans = {} if settings.plan is None else {PLAN: settings.plan}
    return completed_rivals(
        {**settings.rivals, **plans},
        num_steps=settings.solver.num_steps,
        num_blocks=num_exit_blocks_of(settings.backbone) or settings.space.max_depth,
    )


def entry_in(settings: StudySettings, row: Row) -> RivalSettings:
    """The settings behind a row."""
    return entry_of(row, rivals_in(settings))


def maker_in(settings: StudySettings, row: Row) -> Row:
    """The row whose entry trains a row's network; itself unless it borrows one."""
    if row.net is None or row.net == row.name or row.entry in (row.net,):
        return row
    rows = rows_of(rivals_in(settings), {})
    return next((r for r in rows if r.net == row.net and r.net in (r.name, r.entry)), row)


def decision_batch_in(settings: StudySettings, row: Row) -> int | None:
    """Images that decide together in a row; None where each decides by itself, or none does."""
    by_batch = decides_by_batch(entry_in(settings, row))
    return settings.evaluation.batch_size if by_batch else None


def digest_of(settings: StudySettings, row: Row, training_seed: int | None) -> str:
    """Digest of the settings behind a row, 16 hex digits.

    The other sections belong to the run folder, where they cannot change.
    """
    entry = entry_in(settings, row)
    maker = maker_in(settings, row)
    behind = {
        "entry": _without(entry, POINTS),
        "point": row.point,
        "seed": training_seed,
        "network": None if maker is row else network_digest_of(settings, maker, training_seed),
        "small": entry.small if isinstance(entry, StitchRival) else None,
    }
    if (batch := decision_batch_in(settings, row)) is not None:
        behind["decision_batch"] = batch
    return _digest(behind)


def current_records(records: Sequence[RivalRecord], settings: StudySettings) -> list[RivalRecord]:
    """The records that were measured with the present settings of their row.

    A target of ``schedsearch plan`` counts although the space does not name it.
    """
    settings = replace(settings, plan=settings.plan or PlanSettings())
    rows = {row.name: row for row in rows_of(rivals_in(settings), {})}

    def is_current(record: RivalRecord) -> bool:
        if record.entry in (FULL, PRESETS):  # these belong to the run folder
            return True
        row = rows.get(record.name) or rows.get(record.name.removesuffix(TWIN))
        if record.entry == PLAN:
            point = record.name.removeprefix(f"{PLAN}-")
            row = Row(name=record.name, entry=PLAN, point=point)
        if row is None or row.entry != record.entry:
            return False
        return record.config_sha256 == digest_of(settings, row, record.training_seed)

    return [record for record in records if is_current(record)]


def network_digest_of(settings: StudySettings, maker: Row, training_seed: int | None) -> str:
    """Digest of the settings behind a network; operating points of its rows do not count."""
    own = maker.net == maker.name
    behind = {
        "entry": _without(entry_in(settings, maker), (*POINTS, *DECISIONS)),
        "point": maker.point if own else None,
        "seed": training_seed,
    }
    return _digest(behind)


def _without(entry: RivalSettings, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in asdict(entry).items() if key not in keys}


def _digest(behind: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(behind, sort_keys=True).encode()).hexdigest()[:16]


def family_in(settings: StudySettings) -> str | None:
    """``dit``, ``uvit``, or None for a custom class."""
    return shipped_family(settings.backbone)

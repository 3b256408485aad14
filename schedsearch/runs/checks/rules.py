"""What a line of a run's journals must say beyond its form; each rule raises ValueError."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from schedsearch.files.printable import ONE_LINE
from schedsearch.files.strict_json import check_numbers
from schedsearch.records import ConfirmRecord, Evaluation, TrialRecord
from schedsearch.runs.methods.records import RivalRecord
from schedsearch.settings import StudySettings

AHEAD, PER_LINE = 1000, 100
"""How far trial numbers may run ahead of the lines: interrupted and repeated trials have none."""

POSITIVE = 1e-9
"""The least latency, by which others are divided."""

AT_LEAST_ZERO = (
    "fid", "audit_fid", "sample_std", "reference_std", "nn_distance", "near_copies",
    "class_accuracy", "seconds", "share", "macs", "full_macs", "held_bytes", "time_share",
    "training_samples", "training_seconds", "calibration_samples", "calibration_seconds",
)  # fmt: skip
"""Fields that are never negative; every other number must be finite."""

NAMES = ("name", "entry", "kind", "label", "origin", "features", "audit_features", "protocol")
"""Fields that are shown as one line, where they are not empty."""


def trial_rules(settings: StudySettings) -> Callable[[TrialRecord], None]:
    """Rules for the lines of ``results.jsonl``, in order.

    Numbers are different and not far beyond the lines, schedules lie in the space, values are
    finite, and all results have one protocol.

    Args:
        settings: The search space of the run.
    """
    space = settings.space.build()
    seen: set[int] = set()
    first: list[Evaluation] = []

    def check(record: TrialRecord) -> None:
        _check_number(record.number, seen)
        if (reason := space.why_not(record.schedule)) is not None:
            raise ValueError(f"the schedule ({record.schedule}) is not in the space: it {reason}.")
        _check_fields(asdict(record) | {"evaluation": None, "stage_seconds": None})
        if record.evaluation is not None:
            _check_evaluation(record.evaluation, settings.evaluation.num_samples)
            _check_same("protocol", record.evaluation, first)

    return check


def confirmation_rules(settings: StudySettings) -> Callable[[ConfirmRecord], None]:
    """Rules for the lines of ``confirmation.jsonl``, in order; see :func:`trial_rules`."""
    wanted = settings.evaluation.confirm_samples_used
    seen: set[tuple[int, int | None, int]] = set()
    first: list[ConfirmRecord] = []

    def check(record: ConfirmRecord) -> None:
        check_numbers(record.number, "number", least=0)
        key = (record.number, record.training_seed, record.seed)
        if key in seen:
            raise ValueError(f"trial {record.number} has seed {record.seed} twice.")
        seen.add(key)
        _check_fields(asdict(record))
        if record.num_samples != wanted:
            raise ValueError(f"num_samples is {record.num_samples}, not {wanted} as in the space.")
        _check_same("features", record, first)
        if record.audit_fid is not None:
            _check_same("audit_features", record, first)

    return check


def method_rules(settings: StudySettings) -> Callable[[RivalRecord], None]:
    """Rules for the lines of ``rivals.jsonl`` and ``plans.jsonl``; see :func:`trial_rules`."""
    first: list[RivalRecord] = []

    def check(record: RivalRecord) -> None:
        _check_fields(asdict(record) | {"qualities": None})
        if bool(record.qualities) == (record.failed is not None):
            raise ValueError("a row has qualities exactly where it did not fail.")
        for quality in record.qualities:
            _check_fields(asdict(quality))
        if len({quality.seed for quality in record.qualities}) != len(record.qualities):
            raise ValueError("an evaluation seed stands there twice.")
        if record.qualities:
            for key in ("num_samples", "confirm_samples"):
                ours, wanted = getattr(record, key), getattr(settings.evaluation, key)
                if ours != wanted:
                    raise ValueError(f"{key} is {ours}, not {wanted} as in the space.")
            _check_same("protocol", record, first)

    return check


def _check_number(number: int, seen: set[int]) -> None:
    check_numbers(number, "number", least=0)
    if number in seen:
        raise ValueError(f"trial {number} stands there twice.")
    seen.add(number)
    most = AHEAD + PER_LINE * len(seen)
    if number > most:
        raise ValueError(f"trial number {number} is far beyond the lines, at most {most}.")


def _check_evaluation(evaluation: Evaluation, wanted: int) -> None:
    _check_fields(asdict(evaluation))
    if evaluation.num_samples != wanted:
        raise ValueError(f"num_samples is {evaluation.num_samples}, not {wanted} as in the space.")
    if evaluation.nfe < 1:
        raise ValueError(f"nfe must be at least 1, got {evaluation.nfe}.")
    if evaluation.latency_source not in ("predicted", "measured"):
        raise ValueError(f"latency_source is {evaluation.latency_source!r}.")


def _check_fields(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            least = POSITIVE if name == "latency_ms" else 0 if name in AT_LEAST_ZERO else None
            check_numbers(value, name, least=least)
        elif name in NAMES and value and not re.fullmatch(ONE_LINE, value):
            raise ValueError(f"{name} must be one short line, got {value[:40]!r}.")


def _check_same(name: str, record: Any, first: list[Any]) -> None:
    """Refuse a line that does not compare with the first one."""
    if not first:
        first.append(record)
    ours, theirs = getattr(first[0], name), getattr(record, name)
    if ours not in (None, theirs):
        raise ValueError(f"{name} is {theirs!r}, but the lines before have {ours!r}.")

"""Outcomes of the check of recipe.start, made by hand."""

from pathlib import Path
from typing import Any

from driving import settings_of

from schedsearch.files.digest import sha256_of
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.starts.files import RECORD, StartFiles
from schedsearch.runs.starts.records import AdaptersRecord, StartCheck, StartRecord
from schedsearch.settings import StudySettings

ON: dict[str, Any] = {"recipe": {"start": "adapters"}, "evaluation": {"auditor": "digits_mlp"}}


def adapters_settings(**changes: Any) -> StudySettings:
    """Settings of the tiny space with adapters."""
    for section, values in ON.items():
        changes[section] = {**values, **changes.get(section, {})}
    return settings_of(**changes)


def start_record(
    start: str, fids: list[float], audits: list[float], **changes: Any
) -> StartRecord:
    """The outcome of one start."""
    values: dict[str, Any] = {
        "start": start,
        "made_from": "0",
        "weights": "sha256:0",
        "adapters_sha256": None if start == "plain" else "1",
        "label": "D4-DiT",
        "depths": [10, 4],
        "num_steps": 2,
        "num_samples": 64,
        "fids": fids,
        "audit_fids": audits,
    }
    return StartRecord(**{**values, **changes})


def check_of(fid: float, audit: float) -> StartCheck:
    """A check where the plain start has FID 2 and auditor's FID 1, with some noise."""
    return StartCheck(
        plain=start_record("plain", [1.75, 2.0, 2.25], [0.9, 1.0, 1.1]),
        adapters=start_record(
            "adapters",
            [fid - 0.125, fid, fid + 0.125],
            [audit - 0.0625, audit, audit + 0.0625],
        ),
    )


def leave(
    root: Path, settings: StudySettings, fid: float, audit: float, **changes: Any
) -> StartFiles:
    """Write what a check leaves in a run folder, with a file that stands for adapters."""
    folder = RunFolder(root)
    files, check = StartFiles(folder, settings), check_of(fid, audit)
    folder.profile.mkdir(parents=True, exist_ok=True)
    folder.adapters.write_bytes(b"adapters")
    AdaptersRecord(
        sha256=sha256_of(folder.adapters),
        made_from=files.made_from,
        weights="sha256:0",
        exits=[2, 3],
        num_images=96,
        cpu_seconds=1.0,
    ).write(folder.adapters_record)
    for record in (check.plain, check.adapters):
        path = folder.start_check(record.start)
        path.mkdir(parents=True, exist_ok=True)
        fields = {"made_from": files.made_from, "depths": record.depths, **changes}
        made = start_record(record.start, record.fids, record.audit_fids, **fields)
        made.write(path / RECORD)
    return files

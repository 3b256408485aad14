"""A comparison made by hand: full depth, fewer steps, and a dynamic method with its twin."""

from collections.abc import Sequence
from typing import Any

from driving import settings_of

from schedsearch.records import TrialRecord
from schedsearch.runs.checks.identity import RunIdentity
from schedsearch.runs.checks.journals import method_journal
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.latency_file import LatencyReport
from schedsearch.runs.methods.records import RivalRecord, SeedQuality
from schedsearch.runs.methods.results import MethodResults
from schedsearch.runs.results import RunResults
from schedsearch.settings import StudySettings

FULL_MS = 100.0


def rival_of(name: str, fids: Sequence[float], **changes: Any) -> RivalRecord:
    """A measured row; its FIDs are those of the evaluation seeds 0, 1, 2, ..."""
    qualities = tuple(
        SeedQuality(
            seed=seed,
            fid=fid,
            kid=0.0,
            sample_std=0.5,
            audit_fid=fid / 10,
            nn_distance=2.0,
            near_copies=0.05,
        )
        for seed, fid in enumerate(fids)
    )
    values: dict[str, Any] = {
        "name": name,
        "entry": name.partition("-")[0],
        "kind": "schedule",
        "training_seed": None,
        "config_sha256": f"digest of {name}",
        "protocol": "0123456789abcdef",
        "qualities": qualities,
        "num_samples": 64,
        "features": "digits CNN",
        "audit_features": "digits MLP",
        "reference_std": 0.5,
        "share": 1.0,
        "macs": 1000,
        "full_macs": 1000,
    }
    return RivalRecord(**{**values, **changes})


ROWS = [
    rival_of("full", [2.0, 2.1, 2.3, 2.2]),
    rival_of("steps-12", [3.0, 3.0, 3.2, 3.1], kind="steps", share=0.6, macs=600),
    rival_of(
        "deediff-0.7",
        [2.5, 2.6, 2.8, 2.7],
        kind="uncertainty",
        training_seed=0,
        share=0.7,
        training_samples=640,
        training_seconds=12.0,
        calibration_seconds=3.0,
        time_share=0.98,
        note="the target is not reached",
    ),
    rival_of("deediff-0.7-twin", [2.5, 2.6, 2.8, 2.7], entry="deediff", training_seed=0),
]
RATIOS = {"full": 1.02, "steps-12": 0.6, "deediff-0.7": 0.8, "deediff-0.7-twin": 0.7}


def latency_of(ratios: dict[str, float], full_ms: float = FULL_MS) -> dict[str, Any]:
    """Content of ``methods/latency.json``."""
    rows = {
        name: {
            "ms": ratio * full_ms,
            "half_width_ms": 1.0,
            "ratio": ratio,
            "half_width": 0.01,
            "p95_ms": ratio * full_ms * 1.1,
            "num_batches": 1,
            "repeats": 3,
            "full_ms": full_ms,
        }
        for name, ratio in ratios.items()
    }
    digests = {name: f"digest of {name}" for name in ratios}
    return {"protocol": {"device": "cpu"}, "rows": rows, "digests": digests}


def write_rows(run: RunFolder, rows: Sequence[RivalRecord], settings: StudySettings) -> None:
    """Keep rows in a run folder, as a comparison does that is its first command."""
    if RunIdentity.read(run) is None:
        RunIdentity(
            data="d", num_images=1, reference="r", num_reference_images=1, extractor="e"
        ).write(run)
    journal = method_journal(run, run.rivals_file, settings)
    for row in rows:
        journal.append(row)


def methods_of(
    rows: Sequence[RivalRecord] = ROWS,
    ratios: dict[str, float] | None = None,
    trials: Sequence[TrialRecord] = (),
    report: LatencyReport | None = None,
) -> MethodResults:
    """The comparison, and the trials of a search in the same folder."""
    run = RunResults(settings_of(), list(trials), report, [])
    return MethodResults(run, list(rows), latency_of(RATIOS if ratios is None else ratios))

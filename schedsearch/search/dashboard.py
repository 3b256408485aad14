"""What the Optuna dashboard shows of a trial and of the study: attributes, notes, pictures."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

from schedsearch.exceptions import StorageError
from schedsearch.formatting import fid_title, rounded
from schedsearch.records import TrialRecord
from schedsearch.runs.folder import METHOD_FILE, SCHEDULE_FILE, RunFolder
from schedsearch.runs.methods.results import MethodResults

if TYPE_CHECKING:
    from schedsearch.runs.results import RunResults

_log = logging.getLogger(__name__)

MethodsNote = Callable[[MethodResults], str]
"""Writes the methods of a comparison as markdown; given by the command line."""

LONGEST_ATTRIBUTE = 65_535
"""Bytes of an attribute as JSON that every database takes: TEXT of MySQL and MariaDB."""

ORIGINS = {"dp": "searched schedule, optimal by the error table"}
"""What a schedule without a name is called, by its origin."""


class TrialPublisher:
    """Writes a trial's attributes, note and artifacts before Optuna gets its result.

    Finished trials are read-only in Optuna, so this comes first; a picture that cannot be
    stored is logged and never costs the result.

    Args:
        study: The Optuna study.
        store: Its artifact store.
        folder: The run folder.
    """

    def __init__(
        self, study: optuna.Study, store: FileSystemArtifactStore, folder: RunFolder
    ) -> None:
        self.study = study
        self._store = store
        self._folder = folder

    def publish(self, trial: optuna.Trial, record: TrialRecord) -> None:
        """Show a finished trial."""
        from optuna_dashboard import save_note

        for key, value in _attributes(record).items():
            trial.set_user_attr(key, value)
        try:
            picture = self._upload(trial, self._folder.trial(record.number) / "samples.png")
            for name in (SCHEDULE_FILE, METHOD_FILE):  # a trial has one of them
                self._upload(trial, self._folder.trial(record.number) / name, "text/plain")
            link = ""
            if picture is not None:
                path = f"/artifacts/{self.study._study_id}/{trial._trial_id}/{picture}"
                link = f"\n\nSamples, the same noise in every trial:\n\n![samples]({path})"
            save_note(trial, _note(record) + link)
        except (OSError, optuna.exceptions.OptunaError) as error:
            _log.warning("trial %d: nothing to look at: %s", record.number, error)

    def _upload(
        self, target: optuna.Trial | optuna.Study, path: Path, mimetype: str | None = None
    ) -> str | None:
        if not path.is_file():
            return None
        artifact: str = upload_artifact(
            artifact_store=self._store,
            file_path=str(path),
            study_or_trial=target,
            mimetype=mimetype,
        )
        return artifact

    def publish_study(
        self,
        results: RunResults,
        attributes: Mapping[str, Any],
        methods_note: MethodsNote | None = None,
    ) -> None:
        """Show the study as a whole; a second call replaces note and attributes.

        Args:
            results: The search, which may hold no trial.
            attributes: Attributes of the study to set; others stay.
            methods_note: Writes the comparison in the same folder; None leaves it out.
        """
        from optuna_dashboard import save_note

        for key, value in attributes.items():
            if len(json.dumps(value)) <= LONGEST_ATTRIBUTE:
                self.study.set_user_attr(key, value)
            else:
                _log.warning("study attribute %s is too long for a database: left out", key)
        try:
            compared = self._folder.rivals_file.exists()
            sections = [study_note(results)] if results.entries or not compared else []
            if compared and methods_note is not None:
                sections.append(methods_note(MethodResults.load(self._folder)))
            pictures = {"front": self._folder.front_png, "methods": self._folder.methods_png}
            for title, picture in pictures.items():
                artifact = self._upload(self.study, picture)
                if artifact is not None:
                    path = f"/artifacts/{self.study._study_id}/{artifact}"
                    sections.append(f"![{title}]({path})")
            save_note(self.study, "\n\n".join(sections))
        except (OSError, StorageError, optuna.exceptions.OptunaError) as error:
            _log.warning("study note not saved: %s", error)


def _attributes(record: TrialRecord) -> dict[str, Any]:
    values: dict[str, Any] = {"seconds": round(record.seconds, 2), "worker": record.worker}
    if record.evaluation is None:
        return values | {"stage": record.stage, "reason": record.reason}
    e = record.evaluation
    return values | {
        "kid": e.kid,
        "latency_source": e.latency_source,
        "num_samples": e.num_samples,
        "features": e.features,
        "nfe": e.nfe,
        "sample_std": e.sample_std,
        "nn_distance": e.nn_distance,
        "near_copies": e.near_copies,
        "protocol": e.protocol,
    }


def _note(record: TrialRecord) -> str:
    """Markdown: the schedule as a table, then the numbers with their protocol."""
    title = record.label or ORIGINS.get(record.origin or "", "searched schedule")
    edges = record.schedule.edges
    ends = [""] * len(record.depths)
    if edges is not None:
        ends = [f" ({low:.0f} to {high:.0f})" for low, high in itertools.pairwise(edges)]
    intervals = " | ".join(f"{i}{end}" for i, end in enumerate(ends))
    rule = "|".join(["---"] * (len(record.depths) + 1))
    depths = " | ".join(str(depth) for depth in record.depths)
    table = f"| interval (data to noise) | {intervals} |\n|{rule}|\n| blocks run | {depths} |"
    if record.evaluation is None:
        return f"### {title}\n\n{table}\n\nFailed in stage *{record.stage}*: {record.reason}"
    e = record.evaluation
    return (
        f"### {title}\n\n{table}\n\n"
        f"{fid_title(e.features, e.num_samples)} **{rounded(e.fid)}**, "
        f"KID {rounded(e.kid, most=5)}, latency {e.latency_ms:.1f} ms per batch "
        f"({e.latency_source}), {e.nfe} network calls."
    )


def study_attributes(results: RunResults, table: Mapping[str, Any]) -> dict[str, Any]:
    """What the study as a whole carries.

    Args:
        results: The run.
        table: Its latency table, as plain data.
    """
    return {
        "num_schedules": results.settings.space.build().size(),
        "hypervolume": results.hypervolume(),
        "latency_table": dict(table),
        "front": [entry.trial for entry in results.front()],
    }


def study_note(results: RunResults) -> str:
    """Markdown: the front as a table."""
    rows = [
        f"| {e.title} | {' '.join(map(str, e.depths))} | {rounded(e.fid)} | {e.latency.ms:.1f} | "
        f"{e.latency.acceleration:.1%} |"
        for e in results.front()
    ]
    if not rows:
        return "No trial is complete."
    title = results.front()[0].fid_title
    return "\n".join(
        [
            f"## Pareto front of {results.settings.name}",
            "",
            f"| schedule | blocks, data to noise | {title} | latency, ms per batch | saved |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )

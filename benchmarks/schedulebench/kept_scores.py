"""Scores of finished searches on disk, so that a replay can be stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Self

from benchmarks.schedulebench.problems import Problem
from benchmarks.schedulebench.rows import RowFolder
from schedsearch.exceptions import ConfigError

SOURCES = (
    "schedsearch/proposers",
    "schedsearch/planning",
    "schedsearch/schedules/hand_made.py",
    "schedsearch/pareto.py",
    "schedsearch/schedules/space.py",
    "schedsearch/search/study/proposals.py",
    "benchmarks/schedulebench/levels.py",
    "benchmarks/schedulebench/problems.py",
    "benchmarks/schedulebench/replay.py",
    "benchmarks/schedulebench/runner.py",
    "benchmarks/schedulebench/synthetic.py",
)
"""Code that decides about a search; scores of other code are no scores of this."""


class KeptScores:
    """A folder with the score of every finished search, for one process; see :meth:`open`."""

    def __init__(self, rows: RowFolder) -> None:
        self._rows = rows

    @classmethod
    def open(cls, folder: Path, problem: Problem, conditions: Mapping[str, object]) -> Self:
        """Open a folder, or make it.

        Args:
            folder: Where the scores lie.
            problem: What is searched.
            conditions: What else must be equal, such as budgets and the error table.

        Raises:
            ConfigError: If the folder holds searches of something else.
        """
        rows = RowFolder.open(folder)
        protocol = {
            "problem": problem.name,
            "exact_front": problem.best_hypervolume,
            "reference": problem.reference,
            "code": digest_of_sources(),
            "optuna": version("optuna"),
            **conditions,
        }
        try:
            rows.bind(protocol)
        except ConfigError as error:
            raise ConfigError(
                f"{folder} keeps searches of another table, budget or code; choose another --keep."
            ) from error
        return cls(rows)

    def read(self) -> dict[tuple[str, int], dict[int, float]]:
        """Proposer and seed -> score by budget."""
        return {
            (row.values["proposer"], row.values["seed"]): {
                int(budget): score for budget, score in row.values["scores"].items()
            }
            for row in self._rows.rows()
        }

    def add(self, proposer: str, seed: int, scores: Mapping[int, float]) -> None:
        """Keep a search; it is on the disk when this returns."""
        self._rows.append(
            key=f"{proposer}/{seed}",
            proposer=proposer,
            seed=seed,
            scores={str(budget): score for budget, score in scores.items()},
        )


def digest_of_sources() -> str:
    """16 hex digits that change with any file of ``SOURCES``."""
    root = Path(__file__).resolve().parents[2]
    found = hashlib.sha256()
    for name in SOURCES:
        place = root / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            found.update(path.read_bytes())
    return found.hexdigest()[:16]

"""Scores of finished searches on disk, so that a replay of slow proposers can be cut off."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import schedsearch
from benchmarks.schedulebench.problems import Problem
from benchmarks.schedulebench.rows import RowFolder

SOURCES = ("proposers", "planning", "pareto.py", "space.py")
"""What decides about a search, below the package; scores of other code are no scores of this."""


class KeptScores:
    """A folder with the score of every search that ended.

    Args:
        folder: Made if missing.
        problem: What is searched.
        conditions: What else must be equal, such as budgets and the error table.

    Raises:
        ConfigError: If the folder holds searches of something else.
    """

    def __init__(self, folder: Path, problem: Problem, conditions: Mapping[str, object]) -> None:
        self._rows = RowFolder(folder)
        self._rows.bind(
            {
                "problem": problem.name,
                "exact_front": problem.best_hypervolume,
                "reference": problem.reference,
                "code": _digest_of_sources(),
                "optuna": version("optuna"),
                **conditions,
            }
        )

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


def _digest_of_sources() -> str:
    root = Path(schedsearch.__file__).parent
    files: Sequence[Path] = sorted(
        path for name in SOURCES for path in ([root / name, *(root / name).rglob("*.py")])
    )
    found = hashlib.sha256()
    for path in files:
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()[:16]

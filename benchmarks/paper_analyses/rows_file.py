"""The measured rows of one analysis, in a JSON file that grows with every case."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.paper_analyses.measuring import Job, Row
from schedsearch.files.atomic import write_text

SCHEMA = "schedsearch.paper_analyses/1"


@dataclass(kw_only=True)
class RowsFile:
    """Rows measured so far.

    Args:
        path: The JSON file.
        part: Name of the analysis.
        protocol: All that must agree for rows to compare.
    """

    path: Path
    part: str
    protocol: Mapping[str, Any]
    rows: dict[tuple[str, int, int], Row] = field(default_factory=dict)
    seconds: float = 0.0
    """CPU-seconds of all workers so far."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Rows of a file that exists.

        Raises:
            SystemExit: If it holds no rows of an analysis.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']}")
            rows = [Row(**row) for row in data["rows"]]
            return cls(
                path=path,
                part=data["part"],
                protocol=dict(data["protocol"]),
                rows={_key(row): row for row in rows},
                seconds=float(data["cpu_seconds"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise SystemExit(
                f"{path} holds no rows of an analysis ({error}); name another --json."
            ) from error

    @classmethod
    def open(cls, path: Path, part: str, protocol: Mapping[str, Any]) -> Self:
        """Rows of a file, which need not exist yet.

        Raises:
            SystemExit: If the file holds something else, or rows of another protocol.
        """
        if not path.exists():
            return cls(path=path, part=part, protocol=dict(protocol))
        file = cls.read(path)
        found, wanted = {"part": file.part, **file.protocol}, {"part": part, **protocol}
        if differing := sorted(k for k in {*wanted, *found} if wanted.get(k) != found.get(k)):
            pairs = "; ".join(f"{k}: {found.get(k)} there, {wanted.get(k)} now" for k in differing)
            raise SystemExit(
                f"{path} was measured by another protocol, so rows would not compare ({pairs}). "
                "Name another --json, or move the file away."
            )
        return file

    def add(self, rows: Iterable[Row], seconds: float) -> None:
        """Keep the rows of one case, at once and atomically."""
        self.rows |= {_key(row): row for row in rows}
        self.seconds += seconds
        data = {
            "schema": SCHEMA,
            "part": self.part,
            "protocol": self.protocol,
            "cpu_seconds": round(self.seconds, 1),
            "rows": [asdict(self.rows[key]) for key in sorted(self.rows)],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps(data, indent=1) + "\n")

    def missing(self, job: Job) -> bool:
        """Whether the job has a row that is not there yet."""
        return any(
            (measurement.key, job.replicate, seed) not in self.rows
            for measurement in job.case.measurements
            for seed in job.evaluation_seeds
        )


def _key(row: Row) -> tuple[str, int, int]:
    return row.key, row.replicate, row.evaluation_seed

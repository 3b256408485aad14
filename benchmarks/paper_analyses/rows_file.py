"""The measured rows of one analysis, in a JSON file that grows with every case."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks.paper_analyses.measuring import Job, Row
from schedsearch.files.atomic import write_text

SCHEMA = "schedsearch.paper_analyses/1"


class RowsFile:
    """Rows measured so far.

    Args:
        path: The JSON file; its rows are kept when it exists.
        part: Name of the analysis.
        protocol: All that must agree for rows to compare.

    Raises:
        SystemExit: If the file is no such file, or was measured by another protocol.
    """

    def __init__(self, path: Path, part: str, protocol: Mapping[str, object]) -> None:
        self.path, self.part, self.protocol = path, part, dict(protocol)
        self.rows: dict[tuple[str, int, int], Row] = {}
        self.seconds = 0.0
        """CPU-seconds of all workers so far."""
        if path.exists():
            self._read()

    def _read(self) -> None:
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            found = {"schema": data["schema"], "part": data["part"], **data["protocol"]}
            rows = [Row(**row) for row in data["rows"]]
            self.seconds = float(data["cpu_seconds"])
        except (ValueError, KeyError, TypeError) as error:
            raise SystemExit(
                f"{self.path} holds no rows of an analysis ({error}); name another --json."
            ) from error
        wanted = {"schema": SCHEMA, "part": self.part, **self.protocol}
        if differing := sorted(k for k in {*wanted, *found} if wanted.get(k) != found.get(k)):
            pairs = "; ".join(f"{k}: {found.get(k)} there, {wanted.get(k)} now" for k in differing)
            raise SystemExit(
                f"{self.path} was measured otherwise, so rows would not compare ({pairs}). "
                "Name another --json, or move the file away."
            )
        for row in rows:
            self.rows[_key(row)] = row

    def add(self, rows: Iterable[Row], seconds: float) -> None:
        """Keep the rows of one case, at once and atomically."""
        for row in rows:
            self.rows[_key(row)] = row
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

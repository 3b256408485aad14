"""Means, 95 % t intervals and paired differences of the measured rows, as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.paper_analyses.cases import Case, Measurement
from benchmarks.paper_analyses.measuring import Row
from benchmarks.result_tables import Table
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.statistics.intervals import mean_interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over replicates with its 95 % half-width; None with a single replicate."""

    mean: float
    half_width: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Of one value per replicate."""
        if len(values) < 2:
            return cls(fmean(values), None)
        mean, (low, high) = mean_interval(values)
        return cls(mean, (high - low) / 2)

    def text(self, sign: str = "") -> str:
        """As the table shows it."""
        mean = f"{self.mean:{sign}.3f}"
        return mean if self.half_width is None else f"{mean} ± {self.half_width:.3f}"

    @property
    def verdict(self) -> str:
        """What the interval of a difference says."""
        if self.half_width is None:
            return "one seed"
        if self.mean + self.half_width < 0:
            return "better"
        return "worse" if self.mean - self.half_width > 0 else "no difference"


def by_replicate(rows: Iterable[Row], key: str) -> dict[int, list[Row]]:
    """Rows of one measurement, by training seed."""
    found: dict[int, list[Row]] = {}
    for row in rows:
        if row.key == key:
            found.setdefault(row.replicate, []).append(row)
    return found


def summary_table(cases: Sequence[Case], rows: Sequence[Row], note: str) -> Table:
    """The table of an analysis; measurements without rows are left out.

    Args:
        cases: Which measurements there are, in their order.
        rows: What was measured.
        note: What the rows of the table are.
    """
    measurements = [m for case in cases for m in case.measurements]
    groups = list(dict.fromkeys(m.group for m in measurements))
    lines = []
    for group in groups:
        members = [m for m in measurements if m.group == group]
        baseline = next(m for m in members if m.is_baseline)
        reference = by_replicate(rows, baseline.key)
        for member in [baseline, *(m for m in members if m is not baseline)]:
            if found := by_replicate(rows, member.key):
                lines.append(_line(member, found, reference))
    columns = {
        "group": "",
        "row": "",
        "schedule": "",
        "blocks": ".0%",
        "FID": "",
        "difference": "",
        "verdict": "",
        "auditor FID": ".3f",
        "auditor difference": "",
        "KID": ".4f",
        "pixel std": ".3f",
        "class accuracy": ".3f",
        "seeds": "d",
    }
    if any(m.paper for m in measurements):
        columns["paper's FID"] = ""
    return Table(title="Results", note=note, columns=columns, rows=lines)


def _line(
    member: Measurement, found: dict[int, list[Row]], reference: dict[int, list[Row]]
) -> dict[str, object]:
    every = [row for rows in found.values() for row in rows]
    fids = {replicate: fmean(row.fid for row in rows) for replicate, rows in found.items()}
    accuracies = [row.class_accuracy for row in every if row.class_accuracy is not None]
    line: dict[str, object] = {
        "group": member.group,
        "row": member.row,
        "schedule": str(ExitSchedule(member.depths)),
        "blocks": fmean(row.blocks for row in every),
        "FID": Estimate.of(list(fids.values())).text(),
        "difference": None,
        "verdict": None,
        "auditor FID": fmean(row.audit_fid for row in every),
        "auditor difference": None,
        "KID": fmean(row.kid for row in every),
        "pixel std": fmean(row.sample_std for row in every),
        "class accuracy": fmean(accuracies) if accuracies else None,
        "seeds": len(fids),
        "paper's FID": member.paper or None,
    }
    differences = _paired(found, reference, lambda row: row.fid)
    if differences and not member.is_baseline:
        difference = Estimate.of(differences)
        audit = Estimate.of(_paired(found, reference, lambda row: row.audit_fid))
        line |= {
            "difference": difference.text("+"),
            "verdict": difference.verdict,
            "auditor difference": audit.text("+"),
        }
    return line


def _paired(
    found: dict[int, list[Row]],
    reference: dict[int, list[Row]],
    value_of: Callable[[Row], float],
) -> list[float]:
    """One mean difference per replicate, over the evaluation seeds that both have."""
    differences = []
    for replicate in sorted(found.keys() & reference.keys()):
        other = {row.evaluation_seed: value_of(row) for row in reference[replicate]}
        pairs = [
            value_of(row) - other[row.evaluation_seed]
            for row in found[replicate]
            if row.evaluation_seed in other
        ]
        if pairs:
            differences.append(fmean(pairs))
    return differences

"""``certificate.json``: how far the front is from the best that the surrogate thinks possible."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from schedsearch.atomic import write_text
from schedsearch.exceptions import StorageError
from schedsearch.planning.certificate import CERTAIN, Certificate, certify
from schedsearch.planning.dynamic_programming import optimal_front
from schedsearch.planning.surrogate import Surrogate
from schedsearch.schedule import ExitSchedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from schedsearch.planning.error_table import ErrorTable
    from schedsearch.search.results import FrontEntry, RunResults
    from schedsearch.search.run_folder import RunFolder

MIN_TRIALS = 8
"""Trials below which a surrogate certifies nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCertificate:
    """The surrogate, fitted to all trials of a run, against the run's front."""

    sentence: str
    """What it says, for people."""
    bound: tuple[tuple[float, float], ...]
    """(FID, latency in ms at the pace of the measured ones) of its exact optima; FIDs compare
    with those of the front."""
    schedules: tuple[Certificate, ...]
    """One per schedule of the front, by latency."""

    def save(self, folder: RunFolder) -> None:
        """Write it into the run folder."""
        data = {"sentence": self.sentence, "bound": self.bound}
        rows = []
        for certificate in self.schedules:
            row = asdict(certificate)
            for name in ("schedule", "best"):
                row[name] = list(getattr(certificate, name).depths)
            rows.append(row)
        try:
            write_text(
                folder.certificate_file, json.dumps(data | {"schedules": rows}, indent=1) + "\n"
            )
        except OSError as error:
            raise StorageError(f"Cannot write {folder.certificate_file}: {error}.") from error


def load_sentence(folder: RunFolder) -> str | None:
    """What the kept certificate says; None where there is none.

    Raises:
        StorageError: If the file is damaged.
    """
    try:
        return str(json.loads(folder.certificate_file.read_text(encoding="utf-8"))["sentence"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StorageError(
            f"Cannot read {folder.certificate_file}: {error}. Delete it; the next start of the "
            "run writes it again."
        ) from error


def can_certify(results: RunResults) -> bool:
    """Whether there are enough trials, and a front, to say anything."""
    known, front = _members(results)
    return len(known) >= MIN_TRIALS and bool(front)


def _members(results: RunResults) -> tuple[list[FrontEntry], list[FrontEntry]]:
    """Of all trials and of the front, those that lie in the space; a warm start need not."""
    space = results.settings.space.build()
    known = [e for e in results.at_one_rung() if ExitSchedule(e.depths) in space and e.fid > 0]
    return known, [e for e in results.front() if ExitSchedule(e.depths) in space]


def certify_run(
    results: RunResults,
    visits: Sequence[int],
    table: ErrorTable | None,
    predict_ms: Callable[[ExitSchedule], float],
) -> RunCertificate | None:
    """Certificates of the front, or None with too few trials to fit the surrogate to.

    Args:
        results: The run.
        visits: Network calls of the solver per interval, data -> noise.
        table: The error table, where there is one.
        predict_ms: Latency of a schedule by the latency table.
    """
    known, front = _members(results)
    if not can_certify(results):
        return None
    space = results.settings.space.build()
    surrogate = Surrogate.fit(
        space, visits, [ExitSchedule(e.depths) for e in known], [e.fid for e in known], table
    )
    found = certify(
        surrogate, visits, [ExitSchedule(e.depths) for e in front], [e.fid for e in front]
    )
    intercept, costs = surrogate.table()
    bound = tuple(
        (math.exp(intercept + planned.cost), results.drift * predict_ms(planned.schedule))
        for planned in optimal_front(costs, space, visits)
    )
    return RunCertificate(
        sentence=_sentence(found, len(known)), bound=bound, schedules=tuple(found)
    )


def _sentence(found: Sequence[Certificate], num_trials: int) -> str:
    worst = max(found, key=lambda certificate: certificate.gap)
    gap = max(0.0, worst.gap)
    certain = [c for c in found if c.gap > CERTAIN * c.gap_sd]
    verdict = (
        f"more to gain at {len(certain)} of {len(found)} points, see certificate.json"
        if certain
        else "no certain gap anywhere"
    )
    return (
        f"Certificate: the surrogate, fitted to all {num_trials} schedules and optimised exactly "
        f"over the space, expects at most {-math.expm1(-gap):.1%} ± "
        f"{math.exp(-gap) * worst.gap_sd:.1%} lower FID at the cost of a schedule of the "
        f"front: {verdict}. It is as good as the surrogate, not a proof."
    )

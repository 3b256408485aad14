"""Chooses one schedule or method off the front, and says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from schedsearch.exceptions import NoResultError
from schedsearch.pareto import knee as knee_of


class Candidate(Protocol):
    """A point on a front: a schedule of the search, or another method."""

    @property
    def title(self) -> str:
        """Name for people."""
        ...

    @property
    def fid(self) -> float:
        """FID at the search's evaluation seed."""
        ...

    @property
    def latency_ms(self) -> float:
        """Latency in milliseconds per batch."""
        ...

    @property
    def point(self) -> tuple[float, float]:
        """(FID, latency)."""
        ...


Found = TypeVar("Found", bound=Candidate)


def pick(
    front: Sequence[Found],
    full: Candidate | None,
    *,
    knee: bool = False,
    max_latency_ms: float | None = None,
    max_fid: float | None = None,
    max_fid_increase: float | None = None,
) -> tuple[Found, str]:
    """Choose by exactly one rule.

    Args:
        front: The Pareto front.
        full: Full depth, if it was measured.
        knee: The point farthest below the line between the front's ends.
        max_latency_ms: The best FID that is at most this slow.
        max_fid: The fastest whose FID is at most this.
        max_fid_increase: The fastest whose FID is at most this many percent above full depth's.

    Returns:
        The choice, and the reason in words.

    Raises:
        NoResultError: If nothing on the front meets the rule.
    """
    if knee:
        entry = front[knee_of([e.point for e in front])]
        return entry, (
            f"the knee of {len(front)} points: farthest below the straight line between the "
            "front's two ends, both axes scaled to [0, 1]"
        )
    if max_latency_ms is not None:
        fits = [e for e in front if e.latency_ms <= max_latency_ms]
        if not fits:
            fastest = min(front, key=lambda e: e.latency_ms)
            raise NoResultError(
                f"Nothing takes at most {max_latency_ms:g} ms; the fastest is {fastest.title} "
                f"with {fastest.latency_ms:.2f} ms."
            )
        entry = min(fits, key=lambda e: e.fid)
        return entry, f"the best FID of {len(fits)} points with at most {max_latency_ms:g} ms"
    if max_fid_increase is not None:
        if full is None:
            raise NoResultError(
                "--max-fid-increase compares with full depth, but this run did not measure it. "
                "Add full to warm_start, or use --max-fid."
            )
        limit = full.fid * (1 + max_fid_increase / 100)
        rule = f"at most {limit:.4f}, {max_fid_increase:g} % above full depth's {full.fid:.4f}"
    elif max_fid is not None:
        limit, rule = max_fid, f"at most {max_fid:g}"
    else:
        raise ValueError("pick needs exactly one rule, but got none.")
    fits = [e for e in front if e.fid <= limit]
    if not fits:
        best = min(front, key=lambda e: e.fid)
        raise NoResultError(
            f"Nothing has a FID of {rule}; the best is {best.title} with {best.fid:.4f}."
        )
    entry = min(fits, key=lambda e: e.latency_ms)
    return entry, f"the fastest of {len(fits)} points with a FID of {rule}"

"""Chooses one schedule or method off the front, and says why."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
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
    def fids_by_seed(self) -> Mapping[int, float]:
        """FID by held-out seed."""
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

    The FID of the search favours what the search chose. So the rules judge by the mean over the
    held-out seeds, where the whole front and full depth have them.

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
    fid, name = _judge([*front, *([] if full is None else [full])])
    if max_latency_ms is not None:
        fits = [e for e in front if e.latency_ms <= max_latency_ms]
        if not fits:
            fastest = min(front, key=lambda e: e.latency_ms)
            raise NoResultError(
                f"Nothing takes at most {max_latency_ms:g} ms; the fastest is {fastest.title} "
                f"with {fastest.latency_ms:.2f} ms."
            )
        entry = min(fits, key=fid)
        return entry, f"the best {name} of {len(fits)} points with at most {max_latency_ms:g} ms"
    if max_fid_increase is not None:
        if full is None:
            raise NoResultError(
                "--max-fid-increase compares with full depth, but this run did not measure it. "
                "Add full to warm_start, or use --max-fid."
            )
        limit = fid(full) * (1 + max_fid_increase / 100)
        rule = f"at most {limit:.4f}, {max_fid_increase:g} % above full depth's {fid(full):.4f}"
    elif max_fid is not None:
        limit, rule = max_fid, f"at most {max_fid:g}"
    else:
        raise ValueError("pick needs exactly one rule, but got none.")
    fits = [e for e in front if fid(e) <= limit]
    if not fits:
        best = min(front, key=fid)
        raise NoResultError(
            f"Nothing has a {name} of {rule}; the best is {best.title} with {fid(best):.4f}."
        )
    entry = min(fits, key=lambda e: e.latency_ms)
    return entry, f"the fastest of {len(fits)} points with a {name} of {rule}"


def _judge(candidates: Sequence[Candidate]) -> tuple[Callable[[Candidate], float], str]:
    """What FID the rules look at, and its name."""
    seeds = set.intersection(*(set(c.fids_by_seed) for c in candidates)) if candidates else set()
    if not seeds:
        return (lambda candidate: candidate.fid), "FID"

    def mean(candidate: Candidate) -> float:
        return statistics.fmean(candidate.fids_by_seed[seed] for seed in sorted(seeds))

    return mean, f"FID (mean of {len(seeds)} held-out seed{'s' * (len(seeds) > 1)})"

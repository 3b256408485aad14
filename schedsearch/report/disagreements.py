"""Warns where FID flatters: other judges see what it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from schedsearch.formatting import rounded
from schedsearch.statistics.paired import paired_difference

if TYPE_CHECKING:
    from schedsearch.runs.entry import Judges

MORE_COPIES = 0.02
"""Share by which near copies may exceed full depth's."""

STD_FARTHER = 0.02
"""Share of the reference's pixel std that a schedule may differ more than full depth."""

MAX_NAMED = 2
"""Schedules that the sentence names; it counts the others."""


class Judged(Protocol):
    """A schedule or method with its held-out values."""

    @property
    def title(self) -> str:
        """Name for people."""
        ...

    @property
    def fids_by_seed(self) -> dict[int, float]:
        """FID by held-out seed."""
        ...

    @property
    def audits_by_seed(self) -> dict[int, float]:
        """FID by the auditor, by held-out seed."""
        ...

    @property
    def judges(self) -> Judges:
        """What other judges say."""
        ...


def disagreements(full: Judged | None, others: Sequence[Judged]) -> list[str]:
    """One sentence on the schedules that FID may flatter; none where the judges agree.

    Args:
        full: Full depth, which all are compared with; None says nothing.
        others: Schedules or methods; those without two common held-out seeds are passed over.
    """
    if full is None:
        return []
    found = [(other.title, reason) for other in others if (reason := why_flattered(other, full))]
    if not found:
        return []
    named = [f"{title} ({reason})" for title, reason in found[:MAX_NAMED]]
    if more := len(found) - len(named):
        named.append(f"{more} more")
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return [f"FID may flatter {listed}."]


def why_flattered(judged: Judged, full: Judged) -> str | None:
    """The first reason why FID may call a schedule too good, compared with full depth.

    The auditor's FID is clearly worse where FID is not; or near copies of training images are
    more than 2 points above; or the pixel std is more than 2 % farther from the reference's.
    """
    fid = paired_difference(judged.fids_by_seed, full.fids_by_seed)
    if fid is None:
        return None
    audit = paired_difference(judged.audits_by_seed, full.audits_by_seed)
    if fid.verdict != "worse" and audit is not None and audit.verdict == "worse":
        return "auditor: worse than full depth"
    ours, theirs = judged.judges, full.judges
    copies, natural = ours.near_copies, theirs.near_copies
    if copies is not None and natural is not None and copies - natural > MORE_COPIES:
        return f"near copies {copies:.1%}, full depth {natural:.1%}"
    if (real := ours.reference_std) is not None:
        farther = abs(ours.sample_std - real) - abs(theirs.sample_std - real)
        if farther > STD_FARTHER * real:
            return f"pixel std {rounded(ours.sample_std)}, reference {rounded(real)}"
    return None

"""When the search's FIDs mislead: every trial is measured as the front was confirmed.

A search ranks schedules by a short fine-tune and one evaluation seed. Where the confirmation
shows that this rank is wrong, the low rung is raised: the fine-tunes of all trials continue by
``evaluation.confirm_steps``, all are measured at the seeds of the verdicts, and the front is
formed by these FIDs. Who the rival of a preset is stays as the search chose it, since nothing
may be chosen by the seeds that judge it.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from schedsearch.atomic import write_text
from schedsearch.exceptions import StorageError
from schedsearch.statistics.paired import paired_difference
from schedsearch.statistics.rank_agreement import RankAgreement, rank_agreement

if TYPE_CHECKING:
    from schedsearch.search.results import RunResults
    from schedsearch.search.run_folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class RaisedRung:
    """``raised.json``: that the low rung was raised, and why."""

    tau: float
    """Kendall's tau of the search's FIDs against the confirmed ones."""
    num_schedules: int
    """Schedules that it was measured on."""
    num_steps: int
    """Steps by which the fine-tunes of all trials are continued."""

    def save(self, folder: RunFolder) -> None:
        """Keep it; from then on every start of the run goes by it."""
        try:
            write_text(folder.raised_file, json.dumps(asdict(self), indent=1) + "\n")
        except OSError as error:
            raise StorageError(f"Cannot write {folder.raised_file}: {error}.") from error

    @classmethod
    def load(cls, folder: RunFolder) -> RaisedRung | None:
        """Read it; None where the search's FIDs are trusted.

        Raises:
            StorageError: If the file is damaged.
        """
        try:
            return cls(**json.loads(folder.raised_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise StorageError(
                f"Cannot read {folder.raised_file}: {error}. Delete it; the ranks are compared "
                "again."
            ) from error


def rung_agreement(results: RunResults) -> RankAgreement | None:
    """Whether the search's FIDs rank the confirmed schedules as fresh seeds do."""
    confirmed = [entry for entry in results.entries if entry.fid_confirmed is not None]
    if (full := results.full()) is None:
        widths = []
    else:
        fids = results.fids_by_seed(full.trial)
        pairs = [
            paired_difference(results.fids_by_seed(entry.trial), fids)
            for entry in confirmed
            if entry.trial != full.trial
        ]
        widths = [pair.half_width for pair in pairs if pair is not None]
    return rank_agreement(
        [entry.fid_search for entry in confirmed],
        [entry.fid_confirmed for entry in confirmed if entry.fid_confirmed is not None],
        noise=statistics.median(widths) if widths else 0.0,
    )

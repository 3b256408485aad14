"""When the search's FIDs mislead: every trial is measured as the front was confirmed.

A search ranks schedules by a short fine-tune at one evaluation seed. Where the confirmation
shows that this rank is wrong, the low rung is raised: the fine-tunes of all trials continue by
``evaluation.confirm_steps``, all are measured at the seeds of the verdicts, and the front is
formed by these FIDs. Who the rival of a preset is stays as the search chose it, since nothing
may be chosen by the seeds that judge it.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from schedsearch.search.raised_rung import RaisedRung
from schedsearch.statistics.paired import paired_difference
from schedsearch.statistics.rank_agreement import RankAgreement, rank_agreement

if TYPE_CHECKING:
    from schedsearch.search.results import RunResults


def raised_for(agreement: RankAgreement, num_steps: int) -> RaisedRung:
    """The rung to go to.

    Args:
        agreement: What lies.
        num_steps: Steps by which the fine-tunes of all trials are continued.
    """
    return RaisedRung(tau=agreement.tau, num_schedules=agreement.num, num_steps=num_steps)


def misleading(agreement: RankAgreement) -> str:
    """A sentence that says how the search's FIDs rank the confirmed schedules."""
    return agreement.sentence("the search's FID", "the confirmed one")


def rung_agreement(results: RunResults) -> RankAgreement | None:
    """Whether the search's FIDs rank the confirmed schedules as fresh seeds do.

    None where too few are confirmed, and where FIDs are means over fine-tunes: fresh seeds
    measure one of these, which is no better judge.
    """
    if results.settings.evaluation.seeds_per_trial > 1:
        return None
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

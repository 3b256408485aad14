"""Certificates of measured schedules."""

import numpy as np
from test_surrogate import SPACE, WEIGHTS, fitted, log_fid

from schedsearch.planning.certificate import Certificate, certify
from schedsearch.schedules.exit_schedule import ExitSchedule

BAD = ExitSchedule((4, 4, 4, 4, 4, 4, 4, 4, 4, 4))
FULL = ExitSchedule.flat(6)


def certificates() -> list[Certificate]:
    fids = [float(np.exp(log_fid(s))) for s in (FULL, BAD)]
    return certify(fitted(60), WEIGHTS, [FULL, BAD], fids)


def test_a_poor_schedule_is_told_what_is_possible_at_its_cost() -> None:
    _, bad = certificates()
    assert bad.schedule == BAD
    assert (bad.blocks, bad.best_blocks <= bad.blocks) == (80, True)
    assert bad.best in SPACE
    true_gap = log_fid(BAD) - log_fid(bad.best)
    assert true_gap > 0.1
    assert abs(bad.gap - true_gap) < 4 * bad.gap_sd + 0.02
    assert bad.best_fid < bad.predicted_fid
    assert "there is more to gain" in bad.sentence
    assert str(bad.best) in bad.sentence


def test_no_schedule_of_the_space_beats_the_optimum() -> None:
    """The optimum is that of the true sums, up to what the surrogate does not know."""
    _, bad = certificates()
    best = min(log_fid(s) for s in SPACE.enumerate() if sum(s.depths) * 2 <= bad.blocks)
    assert log_fid(bad.best) - best < 0.05


def test_an_optimum_is_its_own_certificate() -> None:
    full, _ = certificates()
    assert full.gap <= 2 * full.gap_sd + 1e-9
    assert "more to gain" not in full.sentence

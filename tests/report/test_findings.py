"""What the report says of a run."""

import pytest
from driving import record_of
from made_up_runs import RECORDS, confirmed, results_of

from schedsearch.report.findings import BAD_TAU, findings_of


def test_front_baselines_and_opponents_are_shown_by_latency() -> None:
    found = findings_of(results_of())
    assert [entry.trial for entry in found.front] == [3, 0]
    assert [entry.trial for entry in found.shown] == [3, 2, 1, 0]  # not trial 4
    assert [c.preset.title for c in found.comparisons] == ["D2-DiT", "D3-DiT"]


def test_seeds_on_the_front() -> None:
    found = findings_of(results_of(confirmed({0: 2.0, 1: 4.0, 2: 3.0})))
    assert found.seeds_on_front == {0: (3, 3), 1: (0, 3), 2: (3, 3)}
    assert found.held_out_title == "3 held-out seeds, n=64"
    assert findings_of(results_of()).held_out_title == ""


@pytest.mark.parametrize(
    ("held_out", "tau"),
    [
        ({0: 2.0, 3: 2.5, 2: 3.0, 1: 4.0, 4: 9.0}, 1.0),
        ({0: 9.0, 3: 4.0, 2: 3.0, 1: 2.5, 4: 2.0}, -1.0),
        ({0: 2.0, 3: 3.0, 2: 2.5, 1: 4.0, 4: 9.0}, 0.8),  # one of ten pairs is off
    ],
)
def test_ranks_of_the_search_against_the_held_out_ones(
    held_out: dict[int, float], tau: float
) -> None:
    found = findings_of(results_of(confirmed(held_out)))
    assert found.tau == pytest.approx(tau)
    assert found.ranks_badly is (tau < BAD_TAU)


def test_too_few_or_equal_schedules_have_no_ranks() -> None:
    few = findings_of(results_of(confirmed({0: 2.0, 1: 4.0, 2: 3.0, 3: 2.5})))
    assert (few.tau, few.ranks_badly) == (None, False)
    equal = [record_of(n, (9 - n,) * 10, 3.0, 10.0 + n) for n in range(5)]
    assert findings_of(results_of(confirmed(dict.fromkeys(range(5), 3.0)), equal)).tau is None
    assert RECORDS[0].evaluation is not None

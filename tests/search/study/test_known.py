from driving import record_of

from schedsearch.schedules.space import SearchSpace
from schedsearch.search.study.known import DistinctSchedules, FinishedTrials
from schedsearch.workers.failures import as_failure

DEEP, SHALLOW = (3,) * 10, (1,) * 10
TIMES = [850.0 - 100 * call for call in range(9)]


def finished() -> FinishedTrials:
    """Trials of a solver that never calls the network in interval 9."""
    return FinishedTrials(DistinctSchedules(SearchSpace(1, 4, 10), TIMES))


def failure(number: int, depths: tuple[int, ...]):
    return as_failure(record_of(number, depths), stage="fid", reason="not finite")


def test_a_failure_counts_until_a_later_attempt_has_a_result() -> None:
    trials = finished()
    trials.add(failure(0, DEEP))
    trials.add(failure(1, SHALLOW))
    assert (trials.num_complete, trials.num_failed) == (0, 2)
    trials.add(record_of(2, DEEP))
    assert (trials.num_complete, trials.num_failed) == (1, 1)
    assert trials.keys() == {DEEP[:9], SHALLOW[:9]}
    assert [record.number for record in trials.records] == [0, 1, 2]


def test_the_first_result_of_what_the_solver_cannot_tell_apart_counts() -> None:
    trials = finished()
    trials.add(record_of(0, DEEP, fid=2.0))
    trials.add(record_of(1, (*DEEP[:9], 1), fid=1.0))
    assert trials.num_complete == 1
    result = trials.result_of(DEEP[:9])
    assert result is not None
    assert result.number == 0
    assert trials.result_of(SHALLOW[:9]) is None


def test_what_runs_is_not_new() -> None:
    assert finished().keys([SHALLOW[:9]]) == {SHALLOW[:9]}


def test_a_failure_keeps_its_trial_and_loses_its_result() -> None:
    failed = failure(4, DEEP)
    assert (failed.number, failed.depths, failed.complete) == (4, DEEP, False)
    assert (failed.stage, failed.reason, failed.evaluation, failed.retry) == (
        "fid", "not finite", None, False,
    )  # fmt: skip

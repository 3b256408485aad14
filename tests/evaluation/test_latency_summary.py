import statistics

import numpy as np
import pytest

from schedsearch.evaluation.latency_summary import median_half_width, summarise


def test_half_width_covers_the_median_of_gaussian_rounds():
    rng = np.random.default_rng(0)
    samples = rng.normal(100, 5, (400, 25))
    covered = [
        abs(statistics.median(row) - 100) <= median_half_width(row.tolist()) for row in samples
    ]
    assert 0.88 < np.mean(covered) < 0.99
    assert median_half_width([3.0] * 7) == 0


def rounds_of(**times):
    """Rounds of whole runs: one step each."""
    rows = zip(*times.values(), strict=True)
    return [{name: [ms] for name, ms in zip(times, row, strict=True)} for row in rows]


def test_summary_pairs_the_rounds_and_flags_unstable_times():
    found = summarise(rounds_of(full=[100.0, 200.0, 400.0], half=[50.0, 100.0, 200.0]), "full")
    half, full = found["half"], found["full"]
    assert half.acceleration == pytest.approx(0.5)
    assert half.acceleration_half_width == pytest.approx(0, abs=1e-9)
    assert (half.median_ms, half.half_width_ms) == (pytest.approx(100), pytest.approx(0, abs=1e-9))
    assert not half.unstable
    assert (full.median_ms, full.acceleration) == (200.0, 0.0)
    assert full.unstable
    assert full.to_dict()["unstable"] is True
    shaky = summarise(rounds_of(full=[100.0] * 3, half=[50.0, 100.0, 90.0]), "full")["half"]
    assert shaky.half_width_ms == pytest.approx(100 * shaky.acceleration_half_width)
    assert shaky.unstable


def test_rounds_that_left_some_out_compare_with_those_that_did_not():
    rounds = rounds_of(full=[100.0] * 4, a=[50.0] * 4, b=[52.0] * 4)
    rounds += [{n: [1.7 * ms[0]] for n, ms in times.items() if n != "a"} for times in rounds]
    found = summarise(rounds, "full")
    assert found["a"].median_ms == pytest.approx(found["full"].median_ms / 2)
    assert found["b"].median_ms == pytest.approx(found["full"].median_ms * 0.52)
    assert (found["a"].repeats, found["b"].repeats) == (4, 8)


def test_all_that_a_round_timed_tells_its_pace():
    """With full depth alone as the measure, its own jitter would be in every share."""
    rng = np.random.default_rng(0)
    shares = {"full": 1.0, **{f"s{i}": 0.4 + 0.05 * i for i in range(8)}}
    errors, by_full, covered = [], [], []
    for _ in range(200):
        pace = np.exp(0.1 * rng.normal(size=10))
        times = {n: 100 * s * pace * np.exp(0.03 * rng.normal(size=10)) for n, s in shares.items()}
        found = summarise(rounds_of(**{n: t.tolist() for n, t in times.items()}), "full")
        gap = found["s7"].median_ms / found["s5"].median_ms - 0.75 / 0.65
        errors.append(gap)
        by_full.append(
            np.median(times["s7"] / times["full"]) / np.median(times["s5"] / times["full"])
            - 0.75 / 0.65
        )
        covered.append(
            abs((1 - found["s5"].acceleration) - 0.65) <= found["s5"].acceleration_half_width
        )
    assert np.std(errors) < 0.9 * np.std(by_full)
    assert 0.85 < np.mean(covered) < 0.99


def steps_of(rng, sd, disturbed=0.0, num_rounds=9, num_steps=20, **costs):
    """Rounds of steps: paces of their own, noise, and now and then a step hit by a neighbour."""
    shape = (num_rounds, len(costs), num_steps)
    ms = np.array(list(costs.values()))[:, None] * np.exp(
        0.1 * rng.normal(size=(num_rounds, 1, 1))
    )
    ms = ms * np.exp(
        0.05 * rng.normal(size=(num_rounds, 1, num_steps)) + sd * rng.normal(size=shape)
    )
    ms = ms * np.where(rng.random(shape) < disturbed, 1.5, 1.0)
    return [dict(zip(costs, row.tolist(), strict=True)) for row in ms]


COSTS = {"full": 15.0, **{f"s{i}": 8.0 + 0.5 * i for i in range(6)}}


def test_a_disturbed_step_is_forgotten_where_a_disturbed_run_is_not():
    rng = np.random.default_rng(0)
    by_steps, by_runs = [], []
    for _ in range(100):
        rounds = steps_of(rng, 0.03, disturbed=0.1, **COSTS)
        sums = [{name: [sum(ms)] for name, ms in times.items()} for times in rounds]
        for found, errors in (
            (summarise(rounds, "full"), by_steps),
            (summarise(sums, "full"), by_runs),
        ):
            errors.append(found["s5"].median_ms / found["s4"].median_ms - 10.5 / 10.0)
    assert abs(np.mean(by_steps)) < 0.002
    assert np.std(by_steps) < 0.75 * np.std(by_runs)


@pytest.mark.parametrize("num_rounds", [3, 6, 14])
def test_half_widths_of_sums_of_steps_cover(num_rounds):
    rng = np.random.default_rng(1)
    covered, apart = [], []
    for _ in range(150):
        found = summarise(steps_of(rng, 0.03, num_rounds=num_rounds, **COSTS), "full")
        gap = found["s5"].acceleration - (1 - 10.5 / 15.0)
        covered.append(abs(gap) <= found["s5"].acceleration_half_width)
        doubt = np.hypot(found["s5"].own_half_width_ms, found["s2"].own_half_width_ms)
        true = found["full"].median_ms * (10.5 - 9.0) / 15.0
        apart.append(abs(found["s5"].median_ms - found["s2"].median_ms - true) <= doubt)
    assert 0.88 < np.mean(covered) < 0.995
    assert 0.88 < np.mean(apart) < 0.995


def test_steps_of_unequal_cost_count_as_what_they_cost():
    """A schedule that is quick at one step and slow at another."""
    rounds = [{"full": [10.0, 10.0], "a": [10.0, 2.0]}, {"full": [20.0, 30.0], "a": [20.0, 6.0]}]
    found = summarise(rounds, "full")
    # Of logarithms, so the median paces are geometric means.
    level = np.sqrt([10.0 * 20.0, 10.0 * 30.0])
    assert found["a"].acceleration == pytest.approx(1 - (level @ [1.0, 0.2]) / level.sum())
    assert found["a"].acceleration_half_width == pytest.approx(0.0, abs=1e-9)


def test_one_round_gives_no_half_width():
    found = summarise([{"full": [100.0], "a": [50.0]}], "full")
    assert (found["a"].median_ms, found["a"].half_width_ms) == (pytest.approx(50.0), 0.0)


def test_what_was_fitted_exactly_is_not_taken_for_sure():
    """Of three schedules the polish often explains all rounds of one, here of two."""
    rounds = rounds_of(
        full=[10.0, 9.736, 10.018], a=[5.045, 4.932, 5.205], b=[4.959, 4.853, 4.927]
    )
    found = summarise(rounds, "full")
    widths = [m.own_half_width_ms / m.median_ms for m in found.values()]
    assert widths == pytest.approx([max(widths)] * 3)
    assert widths[0] > 0.005


def test_work_of_another_number_of_steps_does_not_compare():
    with pytest.raises(ValueError, match="a has 1 steps instead of 2"):
        summarise([{"full": [1.0, 2.0], "a": [1.0]}], "full")

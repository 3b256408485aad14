import statistics

import numpy as np
import pytest

from schedsearch.evaluation.latency_rounds import (
    FEWEST_ROUNDS_OF_A_PAIR,
    MOST_ROUNDS,
    MOST_ROUNDS_OF_A_PAIR,
    measure_rounds,
    median_half_width,
    summarise,
    time_rounds,
)

from .conftest import FakeClock


def test_every_round_runs_everything_once_in_an_order_of_its_own(meter):
    ran = []
    work = {name: (lambda name=name: ran.append(name)) for name in "abcdef"}
    times = time_rounds(work, FakeClock(meter, num_warmups=2), repeats=4)
    warmups, rounds = ran[:12], [tuple(ran[12 + 6 * k : 18 + 6 * k]) for k in range(4)]
    assert sorted(warmups) == sorted("abcdef" * 2)
    assert all(sorted(order) == list("abcdef") for order in rounds)
    assert len(set(rounds)) > 1
    assert {name: len(ms) for name, ms in times.items()} == dict.fromkeys("abcdef", 4)


def test_zero_repeats_are_refused(meter):
    with pytest.raises(ValueError, match="at least one repeat"):
        time_rounds({}, FakeClock(meter), repeats=0)


def test_half_width_covers_the_median_of_gaussian_rounds():
    rng = np.random.default_rng(0)
    samples = rng.normal(100, 5, (400, 25))
    covered = [
        abs(statistics.median(row) - 100) <= median_half_width(row.tolist()) for row in samples
    ]
    assert 0.88 < np.mean(covered) < 0.99
    assert median_half_width([3.0] * 7) == 0


def rounds_of(**times):
    return [dict(zip(times, row, strict=True)) for row in zip(*times.values(), strict=True)]


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
    rounds += [{name: 1.7 * ms for name, ms in times.items() if name != "a"} for times in rounds]
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


class NoisyClock:
    """Returns what the work returns, times a factor for one name's first rounds."""

    num_warmups = 0

    def __init__(self, factors):
        self.factors, self.seen = factors, {"full": 0, "half": 0, "calm": 0}

    def time_ms(self, work):
        name, ms = work()
        seen, self.seen[name] = self.seen[name], self.seen[name] + 1
        factors = self.factors.get(name, [])
        return ms * (factors[seen] if seen < len(factors) else 1.0)


WORK = {
    "full": lambda: ("full", 100.0),
    "half": lambda: ("half", 50.0),
    "calm": lambda: ("calm", 80.0),
}


def test_what_was_hit_by_a_neighbour_is_timed_in_more_rounds():
    clock = NoisyClock({"half": [1.5, 1.4, 1.0]})
    found = measure_rounds(WORK, "full", clock, repeats=5)
    assert found["half"].median_ms == pytest.approx(50.0, rel=1e-3)
    assert 5 < found["half"].repeats == found["full"].repeats < 5 * MOST_ROUNDS
    assert found["calm"].repeats == 5, "what was steady is not timed again"
    assert list(found) == list(WORK)


def test_rounds_end_on_a_machine_that_never_calms_down():
    clock = NoisyClock({"half": [1.0, 1.5, 2.0] * 10})
    found = measure_rounds(WORK, "full", clock, repeats=3)
    assert found["half"].repeats == 3 * MOST_ROUNDS
    assert found["half"].unstable
    assert not found["calm"].unstable


class JitteryClock:
    """Returns what the work returns, times a factor drawn anew at every call."""

    num_warmups = 0

    def __init__(self, sd):
        self.sd, self.rng, self.num_calls = sd, np.random.default_rng(0), 0

    def time_ms(self, work):
        self.num_calls += 1
        return work() * (1 + self.sd * self.rng.normal())


def timed(sd, pairs, **ms):
    work = {name: (lambda value=value: value) for name, value in ms.items()}
    return measure_rounds(work, "full", JitteryClock(sd), repeats=5, pairs=pairs)


def test_a_pair_is_timed_until_its_order_is_clear():
    times = {"full": 100.0, "preset": 72.0, "rival": 72.0, "quick": 65.0, "other": 40.0}
    pairs = [("rival", "preset"), ("quick", "preset")]
    alone, found = timed(0.02, [], **times), timed(0.02, pairs, **times)
    assert alone["rival"].repeats <= 5 * MOST_ROUNDS
    assert 5 * MOST_ROUNDS < found["rival"].repeats == found["preset"].repeats
    assert found["rival"].repeats <= 5 * MOST_ROUNDS_OF_A_PAIR
    assert FEWEST_ROUNDS_OF_A_PAIR <= found["quick"].repeats <= 5 * MOST_ROUNDS
    assert found["other"].repeats <= 5 * MOST_ROUNDS, "its order matters to nobody"


def test_a_clear_order_takes_the_fewest_rounds():
    found = timed(0.001, [("rival", "preset")], full=100.0, preset=72.0, rival=71.0)
    assert found["rival"].repeats == found["preset"].repeats == FEWEST_ROUNDS_OF_A_PAIR


def test_equal_schedules_are_not_timed_for_ever():
    found = timed(0.0, [("a", "b")], full=100.0, a=50.0, b=50.0)
    assert found["a"].repeats == found["b"].repeats == 5 * MOST_ROUNDS_OF_A_PAIR


def test_more_rounds_decide_more_orders():
    """The reason for them: what is 1.4 % quicker must not be refused for its bad luck."""
    times = {"full": 100.0, "preset": 72.0, "rival": 71.0}

    def share_of_right_orders(pairs):
        right = 0
        for seed in range(60):
            clock = JitteryClock(0.02)
            clock.rng = np.random.default_rng(seed)
            work = {name: (lambda value=value: value) for name, value in times.items()}
            found = measure_rounds(work, "full", clock, repeats=5, seed=seed, pairs=pairs)
            right += found["rival"].median_ms < found["preset"].median_ms
        return right / 60

    assert share_of_right_orders([("rival", "preset")]) > share_of_right_orders([]) + 0.04

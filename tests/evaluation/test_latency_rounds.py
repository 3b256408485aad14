import numpy as np
import pytest

from schedsearch.evaluation.latency_rounds import (
    summarise,
    t_half_width,
    time_rounds,
    whole_runs,
)

from .conftest import FakeClock


def work_of(call, num_steps=1):
    """Work whose every step calls ``call``."""
    return lambda: (call() for _ in range(num_steps))


def recorded(ran, names, num_steps=1):
    """Work by name that notes in ``ran`` whose step ran."""
    return {name: work_of(lambda name=name: ran.append(name), num_steps) for name in names}


# ---- timing -------------------------------------------------------------------------------


def test_whole_runs_are_timed_in_random_orders_after_warm_up(meter):
    ran = []
    clock = FakeClock(meter, num_warmups=2, interleaves_steps=False)
    times = time_rounds(recorded(ran, "abcdef"), clock, repeats=4)
    warmups, orders = ran[:12], [tuple(ran[12 + 6 * k : 18 + 6 * k]) for k in range(4)]
    assert sorted(warmups) == sorted("abcdef" * 2)
    assert all(sorted(order) == list("abcdef") for order in orders)
    assert len(set(orders)) > 1
    assert {name: len(rounds) for name, rounds in times.items()} == dict.fromkeys("abcdef", 4)


def test_whole_runs_are_not_interleaved(meter):
    ran = []
    clock = FakeClock(meter, num_warmups=0, interleaves_steps=False)
    time_rounds(recorded(ran, "abc", num_steps=5), clock, repeats=2)
    assert all(len(set(ran[k : k + 5])) == 1 for k in range(0, 30, 5))
    assert clock.num_readings == 6


def test_interleaved_runs_warm_up_with_their_first_step(meter):
    ran = []
    time_rounds(recorded(ran, "abc", num_steps=5), FakeClock(meter, num_warmups=2), repeats=1)
    assert ran[:6] == ["a", "a", "b", "b", "c", "c"]
    assert len(ran) == 6 + 3 * 2 * 5, "each step once timed and once not"


@pytest.mark.parametrize(("interleaves", "num_warmups"), [(True, 0), (False, 0), (False, 3)])
def test_whole_runs_are_counted_as_they_happen(meter, interleaves, num_warmups):
    ran = []
    clock = FakeClock(meter, num_warmups=num_warmups, interleaves_steps=interleaves)
    time_rounds(recorded(ran, "abc", num_steps=5), clock, repeats=4)
    assert len(ran) == 3 * 5 * whole_runs(clock, repeats=4)


def test_steps_are_interleaved_in_random_orders(meter):
    ran = []
    steps = {"a": 6, "b": 6, "c": 4}

    def start(name):
        def step():
            ran.append(name)
            meter.total += 10

        return work_of(step, steps[name])

    clock = FakeClock(meter, num_warmups=0)
    times = time_rounds({name: start(name) for name in steps}, clock, repeats=1)
    assert times == {name: [10.0 * num] for name, num in steps.items()}, "only half is timed"
    passes = [ran[:3], *(ran[3 + 6 * k : 9 + 6 * k] for k in range(3))]
    assert all(sorted(set(names)) == ["a", "b", "c"] for names in passes)
    assert all(names[0::2] == names[1::2] for names in passes[1:]), "the step before comes first"
    assert len({tuple(dict.fromkeys(names)) for names in passes}) > 1
    assert sorted(ran[21:]) == [*"aaaaa", *"bbbbb", "c"], "a run that has ended is left out"


@pytest.mark.parametrize("interleaves_steps", [True, False])
def test_the_start_and_the_end_of_a_run_are_timed_too(meter, interleaves_steps):
    def untidy():
        meter.total += 5

        def steps():
            meter.total += 1
            yield
            meter.total += 2
            yield
            meter.total += 4

        return steps()

    clock = FakeClock(meter, interleaves_steps=interleaves_steps)
    assert time_rounds({"a": untidy}, clock, repeats=2) == {"a": [12.0, 12.0]}


def test_work_without_steps_is_timed(meter):
    def all_at_once():
        meter.total += 5
        return ()

    assert time_rounds({"a": all_at_once}, FakeClock(meter), repeats=1) == {"a": [5.0]}


def test_interleaving_cancels_a_speed_that_changes_within_a_run(meter):
    """A shared CPU is like this."""

    def spread(interleaves_steps):
        rng = np.random.default_rng(0)
        speeds = iter(np.exp(0.01 * np.cumsum(rng.normal(size=20_000))))

        def step():
            meter.total += 10 * next(speeds)

        clock = FakeClock(meter, num_warmups=0, interleaves_steps=interleaves_steps)
        work = {"a": work_of(step, 20), "b": work_of(step, 20)}
        times = time_rounds(work, clock, repeats=100)
        return np.std(np.log(times["a"]) - np.log(times["b"]))

    assert spread(interleaves_steps=True) < 0.25 * spread(interleaves_steps=False)


def test_zero_repeats_are_refused(meter):
    with pytest.raises(ValueError, match="at least one repeat"):
        time_rounds({}, FakeClock(meter), repeats=0)


# ---- summary ------------------------------------------------------------------------------


def test_a_slower_round_changes_no_saving():
    found = summarise({"full": [100.0, 200.0, 400.0], "half": [50.0, 100.0, 200.0]}, "full")
    half, full = found["half"], found["full"]
    assert (half.acceleration, half.acceleration_half_width) == (0.5, 0.0)
    assert (half.median_ms, half.half_width_ms, half.repeats) == (100.0, 0.0, 3)
    assert (full.median_ms, full.acceleration, full.acceleration_half_width) == (200.0, 0.0, 0.0)
    assert full.half_width_ms == pytest.approx(t_half_width([100.0, 200.0, 400.0]))


def test_a_disturbed_round_does_not_shift_the_latency():
    calm = summarise({"full": [100.0] * 5, "half": [49.0, 50.0, 51.0, 50.0, 50.0]}, "full")
    found = summarise({"full": [100.0] * 5, "half": [49.0, 50.0, 51.0, 50.0, 90.0]}, "full")
    assert found["half"].median_ms == calm["half"].median_ms == 50.0
    assert found["half"].half_width_ms > 5 * calm["half"].half_width_ms, "but it is told"


def test_half_widths_are_students_t_of_the_ratios():
    found = summarise({"full": [100.0, 100.0, 200.0], "a": [50.0, 52.0, 108.0]}, "full")["a"]
    # Ratios 0.50, 0.52, 0.54; t of two degrees of freedom is 4.303.
    half_width = 4.30265 * 0.02 / 3**0.5
    assert found.acceleration == pytest.approx(0.48)
    assert found.acceleration_half_width == pytest.approx(half_width, rel=1e-5)
    assert found.half_width_ms == pytest.approx(100 * half_width, rel=1e-5)


def test_one_round_gives_no_half_width():
    found = summarise({"full": [100.0], "a": [50.0]}, "full")
    assert (found["a"].median_ms, found["a"].half_width_ms) == (50.0, 0.0)


def test_intervals_hold_the_true_saving():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        speed = np.exp(0.1 * rng.normal(size=7))
        noise = np.exp(0.03 * rng.normal(size=(2, 7)))
        times = {"full": (100 * speed * noise[0]).tolist(), "a": (65 * speed * noise[1]).tolist()}
        found = summarise(times, "full")["a"]
        covered.append(abs(found.acceleration - 0.35) <= found.acceleration_half_width)
    assert 0.85 < np.mean(covered) < 0.98  # a median scatters more than a mean

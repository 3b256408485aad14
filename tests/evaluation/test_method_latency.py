"""Latency of sampling methods beside full depth, on a made-up clock."""

from dataclasses import replace

import pytest
import torch

from schedsearch.evaluation.latency_rounds import t_half_width
from schedsearch.evaluation.method_latency import LATENCY_SEED, TimedMethod, measure_methods
from schedsearch.evaluation.sampling import starting_noise
from schedsearch.schedules.exit_schedule import ExitSchedule

from .conftest import EulerSolver, FakeClock, TinyNet

FULL = ExitSchedule.flat(5)
TIGHT = ExitSchedule((5, 4, 4, 3, 3, 2, 2, 2, 1, 1))


def cost(schedule, solver):
    return 7 + sum(2 + 3 * schedule.depth_at(t) for t in solver.times)


class Varying:
    """A dynamic method: the first pixel of a batch's noise decides how deep its run goes."""

    def begin(self, net, times, *, guided):
        def call(x, t, y, *, clock, step):
            if step == 0:
                call.depth = 1 + int(x[0, 0, 0, 0] > 0) * 3
            return net(x, t, y, exit_depth=call.depth)

        return call


def depth_of(seed):
    return 1 + int(starting_noise(seed, 1, (1, 8, 8))[0, 0, 0, 0] > 0) * 3


@pytest.mark.parametrize("interleaves_steps", [True, False])
def test_a_cheaper_method_takes_its_share_of_full_depth(
    net, solver, meter, protocol, interleaves_steps
):
    clock = FakeClock(meter, interleaves_steps=interleaves_steps)
    methods = {
        "tight": TimedMethod(net=net, method=TIGHT, solver=solver),
        "full": TimedMethod(net=net, method=FULL, solver=solver),
    }
    found = measure_methods(methods, net, solver, protocol, repeats=3, clock=clock)
    assert list(found) == ["tight", "full"]
    full, tight = cost(FULL, solver), cost(TIGHT, solver)
    assert found["full"].ratio == pytest.approx(1)
    assert found["full"].ms == found["full"].full_ms == pytest.approx(full)
    assert found["tight"].ratio == pytest.approx(tight / full)
    assert found["tight"].ms == found["tight"].p95_ms == pytest.approx(tight)
    assert found["tight"].half_width == found["tight"].half_width_ms == pytest.approx(0)
    assert (found["tight"].num_batches, found["tight"].repeats) == (1, 3)


def test_shares_survive_a_drifting_machine(net, solver, meter, protocol):
    clock = FakeClock(meter, speed=lambda reading: 1.02 ** (reading / 10))
    methods = {"tight": TimedMethod(net=net, method=TIGHT, solver=solver)}
    found = measure_methods(methods, net, solver, protocol, repeats=15, clock=clock)["tight"]
    assert found.ratio == pytest.approx(cost(TIGHT, solver) / cost(FULL, solver), abs=0.02)
    assert 0 < found.half_width < 0.05
    assert found.half_width_ms == pytest.approx(found.half_width * found.full_ms)


def test_another_network_and_solver(net, solver, meter, protocol):
    small, few = TinyNet(depth=2, meter=meter).eval(), EulerSolver(meter, num_steps=4)
    methods = {
        "small": TimedMethod(net=small, method=ExitSchedule.flat(2), solver=solver),
        "steps": TimedMethod(net=net, method=FULL, solver=few),
    }
    found = measure_methods(methods, net, solver, protocol, repeats=2, clock=FakeClock(meter))
    full = cost(FULL, solver)
    assert found["small"].ratio == pytest.approx((7 + 10 * (2 + 3 * 2)) / full)
    assert found["steps"].ratio == pytest.approx((7 + 4 * (2 + 3 * 5)) / full)
    assert {found[name].full_ms for name in found} == {full}


def test_a_dynamic_method_is_timed_on_several_batches(net, solver, meter, protocol):
    num = 6
    costs = [cost(ExitSchedule.flat(depth_of(LATENCY_SEED + b)), solver) for b in range(num)]
    assert len(set(costs)) == 2, "the batches differ"
    timed = TimedMethod(net=net, method=Varying(), solver=solver, num_batches=num)
    methods = {"dynamic": timed}
    found = measure_methods(methods, net, solver, protocol, repeats=3, clock=FakeClock(meter))
    full, dynamic = cost(FULL, solver), found["dynamic"]
    ratios = [ms / full for ms in costs]
    assert dynamic.ratio == pytest.approx(sum(ratios) / num)
    assert dynamic.ms == pytest.approx(sum(costs) / num)
    assert dynamic.half_width == pytest.approx(t_half_width(ratios))
    assert dynamic.half_width_ms == pytest.approx(t_half_width(costs))
    assert dynamic.p95_ms == pytest.approx(max(costs))
    assert (dynamic.num_batches, dynamic.repeats) == (num, 3)


def test_one_batch_uses_the_noise_of_all_schedules(net, solver, meter, protocol):
    seen = []

    class Watching(Varying):
        def begin(self, net, times, *, guided):
            call = super().begin(net, times, guided=guided)

            def watched(x, *args, step, **kwargs):
                if step == 0:
                    seen.append(x.clone())
                return call(x, *args, step=step, **kwargs)

            return watched

    timed = TimedMethod(net=net, method=Watching(), solver=solver)
    measure_methods({"a": timed}, net, solver, protocol, repeats=1, clock=FakeClock(meter))
    assert all(torch.equal(noise, starting_noise(0, 4, (1, 8, 8))) for noise in seen)
    assert len(seen) >= 2


@pytest.mark.parametrize(("num_slow", "p95"), [(1, 1), (2, 10)])
def test_the_95th_percentile_leaves_one_run_of_twenty_out(
    net, solver, meter, protocol, num_slow, p95
):
    class Slow:
        """Takes ten times as long in its first timed runs."""

        runs = 0

        def begin(self, net, times, *, guided):
            self.runs += 1
            factor = 10 if 2 <= self.runs < 2 + num_slow else 1  # the first run warms up
            call = FULL.begin(net, times, guided=guided)

            def slowed(*args, **kwargs):
                before = meter.total
                output = call(*args, **kwargs)
                meter.total = before + factor * (meter.total - before)
                return output

            return slowed

    clock = FakeClock(meter, interleaves_steps=False)
    methods = {"slow": TimedMethod(net=net, method=Slow(), solver=solver)}
    found = measure_methods(methods, net, solver, protocol, repeats=20, clock=clock)["slow"]
    assert found.ms == pytest.approx(cost(FULL, solver))
    assert found.p95_ms == pytest.approx(7 + p95 * (cost(FULL, solver) - 7))


def test_half_precision_and_guidance_apply_to_every_network(net, solver, meter, protocol):
    small = TinyNet(depth=2, meter=meter).eval()
    guided = replace(protocol, cfg_scale=2.0)
    methods = {"small": TimedMethod(net=small, method=ExitSchedule.flat(2), solver=solver)}
    found = measure_methods(methods, net, solver, guided, repeats=1, clock=FakeClock(meter))
    assert found["small"].ms == pytest.approx(7 + 2 * 10 * (2 + 3 * 2))
    half = replace(protocol, dtype="bfloat16")
    small.seen_dtypes.clear()
    measure_methods(methods, net, solver, half, repeats=1, clock=FakeClock(meter))
    assert small.seen_dtypes == set(), "the network itself ran"
    assert {weight.dtype for weight in small.parameters()} == {torch.float32}


def test_networks_and_threads_are_restored(solver, meter, protocol):
    trained, threads = TinyNet(meter=meter).train(), torch.get_num_threads()
    small = TinyNet(depth=2, meter=meter).train()
    methods = {"small": TimedMethod(net=small, method=ExitSchedule.flat(2), solver=solver)}
    other = replace(protocol, threads=threads + 1)
    measure_methods(methods, trained, solver, other, repeats=1, clock=FakeClock(meter))
    assert trained.training
    assert small.training
    assert trained.seen_training == small.seen_training == {False}
    assert torch.get_num_threads() == threads
    assert not torch.is_inference_mode_enabled()

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from driving import settings_of
from torch import nn

from schedsearch.evaluation.latency import (
    LatencyBench,
    cost_times,
    measure_interleaved,
    measure_schedules,
)
from schedsearch.evaluation.latency_protocol import LatencyProtocol
from schedsearch.evaluation.latency_table import (
    LatencyTable,
    fit_table,
    measure_table,
    table_depths,
)
from schedsearch.exceptions import ConfigError
from schedsearch.methods.caches.block_cache import BlockCache
from schedsearch.methods.caches.residual_cache import ResidualCache
from schedsearch.schedules.exit_schedule import ExitSchedule
from tests.methods.caches import cached_runs

from .conftest import EulerSolver, FakeClock, TinyNet

TIGHT = ExitSchedule((5, 5, 4, 4, 3, 3, 2, 2, 1, 1))


def _cost(schedule, solver):
    """What the fake network and solver of conftest charge for one run."""
    return 7 + sum(2 + 3 * schedule.depth_at(t) for t in solver.times)


# ---- runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("interleaves_steps", [True, False])
def test_savings_survive_a_drifting_machine(net, solver, meter, protocol, interleaves_steps):
    # By the end the machine is half as fast.
    steps = len(solver.times) if interleaves_steps else 1
    drifting = FakeClock(
        meter,
        speed=lambda reading: 1.02 ** (reading / steps),
        interleaves_steps=interleaves_steps,
    )
    schedules = {"full": ExitSchedule.flat(5), "tight": TIGHT, "flat": ExitSchedule.flat(3)}
    found = measure_interleaved(net, schedules, solver, protocol, repeats=15, clock=drifting)
    for name, schedule in schedules.items():
        saved = 1 - _cost(schedule, solver) / _cost(schedules["full"], solver)
        assert found[name].acceleration == pytest.approx(saved, abs=0.03)
        assert found[name].repeats == 15
    assert found["full"].acceleration == 0
    assert list(found) == list(schedules)


def test_full_depth_is_added_as_the_baseline(net, solver, meter, protocol):
    found = measure_interleaved(
        net, {"tight": TIGHT}, solver, protocol, repeats=3, clock=FakeClock(meter)
    )
    assert list(found) == ["tight", "full"]
    assert found["tight"].median_ms == pytest.approx(_cost(TIGHT, solver))
    assert found["tight"].half_width_ms == 0


def test_savings_do_not_depend_on_the_speed_of_the_machine(net, solver, meter, protocol):
    def saving(speed):
        clock = FakeClock(meter, speed=lambda reading: speed)
        found = measure_interleaved(net, {"t": TIGHT}, solver, protocol, repeats=3, clock=clock)
        return found["t"].acceleration

    exact = 1 - _cost(TIGHT, solver) / _cost(ExitSchedule.flat(5), solver)
    assert saving(1.0) == pytest.approx(exact)
    assert saving(17.0) == pytest.approx(exact)


@pytest.mark.parametrize("interleaves_steps", [True, False])
@pytest.mark.parametrize("name", cached_runs.NETS)
def test_what_is_timed_reuses_as_much_as_what_samples(name, meter, protocol, interleaves_steps):
    net, runs = cached_runs.NETS[name], []
    solver = cached_runs.SOLVERS["dpm_solver"]

    class Noted:
        def __init__(self, method):
            self.method = method

        def begin(self, net, times, *, guided):
            runs.append((self.method, self.method.begin(net, times, guided=guided)))
            return runs[-1][1]

    class Ticking(FakeClock):
        def time_ms(self, work):
            work()
            return 1.0

    methods = {
        "fbcache": ResidualCache(1, "residual", threshold=cached_runs.threshold_of(net)),
        "teacache": ResidualCache(0, "input", threshold=cached_runs.INPUT_THRESHOLD),
        "fora": BlockCache(every=2),
    }
    noted = {name: Noted(method) for name, method in methods.items()}
    guided = replace(protocol, cfg_scale=2.0)
    clock = Ticking(meter, interleaves_steps=interleaves_steps)
    measure_interleaved(net, noted, solver, guided, repeats=2, clock=clock)
    for method in methods.values():
        _, sampled = cached_runs.sample(method, net, num=protocol.batch, cfg_scale=2.0)
        expected = torch.stack(sampled.blocks)
        assert (expected < net.num_blocks).any()
        timed = [run.blocks for started, run in runs if started is method]
        whole = [torch.stack(blocks) for blocks in timed if len(blocks) == solver.num_steps]
        # Per round one run that is timed and, interleaved, a copy one step behind it.
        assert len(whole) >= 2
        assert all(torch.equal(blocks, expected) for blocks in whole)
        assert all(torch.equal(torch.stack(b), expected[: len(b)]) for b in timed)


@pytest.fixture
def other_threads():
    """Lets torch use one thread more than it would, which work here should not do."""
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    yield
    torch.set_num_threads(before)


def test_a_study_sets_rounds_threads_and_batch(meter, other_threads):
    settings = settings_of(
        evaluation={"latency_repeats": 4, "latency_batch": 3}, resources={"cpus_per_trial": 1}
    )
    seen = set()

    class Watched(EulerSolver):
        def trajectory(self, denoiser, noise, step_noise=None):
            seen.add((torch.get_num_threads(), len(noise)))
            yield from super().trajectory(denoiser, noise)

    found = measure_schedules(settings, TinyNet(meter=meter), Watched(meter), {"tight": TIGHT})
    assert seen == {(1, 3)}
    assert {name: m.repeats for name, m in found.items()} == {"tight": 4, "full": 4}


def test_guidance_doubles_the_calls(net, solver, meter, protocol):
    guided = LatencyProtocol(**{**protocol.to_dict(), "cfg_scale": 2.0})
    found = measure_interleaved(net, {}, solver, guided, repeats=1, clock=FakeClock(meter))
    full = _cost(ExitSchedule.flat(5), solver)
    assert found["full"].median_ms == 2 * (full - 7) + 7


@pytest.mark.parametrize("interval", [(300.0, 700.0), (0.0, 940.0), (100.0, 1000.0)])
def test_guidance_in_an_interval_doubles_the_calls_inside(net, solver, meter, protocol, interval):
    solver.cfg_interval = interval
    guided = LatencyProtocol(**{**protocol.to_dict(), "cfg_scale": 2.0})
    doubled = [t for t in solver.times if interval[0] <= t <= interval[1]]
    cost = _cost(TIGHT, solver) + sum(2 + 3 * TIGHT.depth_at(t) for t in doubled)
    found = measure_interleaved(
        net, {"t": TIGHT}, solver, guided, repeats=1, clock=FakeClock(meter)
    )
    assert found["t"].median_ms == pytest.approx(cost)
    table = measure_table(net, solver, guided, repeats=1, clock=FakeClock(meter))
    assert table.predict(TIGHT, cost_times(solver)) == pytest.approx(cost)
    assert table.num_calls == 10 + len(doubled)


def test_half_precision_runs_on_a_copy(net, solver, meter, protocol):
    half = LatencyProtocol(**{**protocol.to_dict(), "dtype": "bfloat16"})
    seen = []

    class Watched(type(solver)):
        def trajectory(self, denoiser, noise, step_noise=None):
            seen.append((noise.dtype, denoiser(noise, 500.0).dtype))
            yield from super().trajectory(denoiser, noise)

    measure_interleaved(net, {}, Watched(meter), half, repeats=1, clock=FakeClock(meter))
    assert set(seen) == {(torch.float32, torch.float32)}
    assert net.seen_dtypes == set(), "the network itself ran"
    assert {weight.dtype for weight in net.parameters()} == {torch.float32}


def test_threads_and_training_mode_are_set_and_restored(solver, meter, protocol):
    threads = torch.get_num_threads()
    trained = TinyNet(meter=meter).train()
    seen = []

    class Watched(type(solver)):
        def trajectory(self, denoiser, noise, step_noise=None):
            seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))
            yield denoiser(noise, 500.0)
            if len(seen) > 3:  # in a measured round, with the others under way
                raise KeyboardInterrupt

    other = LatencyProtocol(**{**protocol.to_dict(), "threads": threads + 1})
    with pytest.raises(KeyboardInterrupt):
        measure_interleaved(trained, {"tight": TIGHT}, Watched(meter), other, repeats=1)
    assert set(seen) == {(threads + 1, True)}
    assert len(seen) > 3
    assert torch.get_num_threads() == threads
    assert trained.training
    assert not torch.is_inference_mode_enabled()


# ---- the table ----------------------------------------------------------------------------


def test_an_affine_machine_is_predicted_exactly(net, solver, meter, protocol):
    table = measure_table(net, solver, protocol, repeats=3, clock=FakeClock(meter))
    assert table.depth_ms == {d: pytest.approx(2 + 3 * d) for d in range(1, 6)}
    assert set(table.run_ms) == {1, 3, 5}
    assert (table.a_ms, table.b_ms, table.c0_ms) == pytest.approx((2, 3, 7))
    assert table.max_residual < 1e-9
    assert table.num_calls == 10
    for schedule in (TIGHT, ExitSchedule.flat(5), ExitSchedule((1,) * 10)):
        assert table.predict(schedule, solver.times) == pytest.approx(_cost(schedule, solver))


def test_the_table_survives_json(net, solver, meter, protocol):
    table = measure_table(net, solver, protocol, repeats=3, clock=FakeClock(meter))
    assert LatencyTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_depth_0_is_a_point_of_the_table_where_it_is_asked_for(net, solver, meter, protocol):
    table = measure_table(net, solver, protocol, repeats=2, min_depth=0, clock=FakeClock(meter))
    assert table.depth_ms == {d: pytest.approx(2 + 3 * d) for d in range(6)}
    assert set(table.run_ms) == {0, 3, 5}
    schedule = ExitSchedule((2, 2, 1, 0, 0, 0, 0, 0, 0, 0))
    assert table.predict(schedule, solver.times) == pytest.approx(_cost(schedule, solver))


def test_residuals_tell_of_a_machine_that_is_not_affine(protocol):
    calls = {depth: 2.0 + 3 * depth + (4 if depth > 3 else 0) for depth in range(1, 7)}
    table = fit_table(calls, {1: 60.0, 6: 250.0}, num_calls=10, repeats=3, protocol=protocol)
    assert 0.02 < table.mean_residual < table.max_residual


def test_a_network_of_one_block(solver, meter, protocol):
    net = TinyNet(depth=1, meter=meter)
    table = measure_table(net, solver, protocol, repeats=2, clock=FakeClock(meter))
    schedule = ExitSchedule.flat(1)
    assert table.predict(schedule, solver.times) == pytest.approx(_cost(schedule, solver))


def test_a_space_of_one_depth_still_gets_a_line(net, solver, meter, protocol):
    table = measure_table(net, solver, protocol, repeats=2, min_depth=5, clock=FakeClock(meter))
    assert sorted(table.depth_ms) == [1, 5]


def test_depths_worth_a_measurement():
    assert table_depths(2, 10) == list(range(2, 11))
    many = table_depths(1, 28)
    assert len(many) == 12
    assert (many[0], many[-1]) == (1, 28)
    gaps = np.diff(many)
    assert gaps.min() >= 2
    assert gaps.max() <= 3


# ---- real clocks --------------------------------------------------------------------------


def test_a_real_network_on_the_wall_clock(net, solver, protocol):
    table = measure_table(net, solver, protocol, repeats=3)
    assert all(ms > 0 for ms in table.depth_ms.values())
    found = measure_interleaved(net, {"tight": TIGHT}, solver, protocol, repeats=3)
    assert all(m.median_ms > 0 for m in found.values())


def test_blocks_are_compiled_in_a_copy(net, solver, protocol, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Linear, "compile", lambda block, dynamic: compiled.append(block))
    with LatencyBench(net, solver, replace(protocol, compile=True)) as bench:
        list(bench.sampling_run(TIGHT)())
    assert len(compiled) == 5
    assert not set(compiled) & set(net.blocks)
    assert net.seen_dtypes == set()  # what ran was the copy
    assert replace(protocol, compile=True).arithmetic == f"{protocol.dtype}, compiled"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_blocks_compute_the_same(net, solver, protocol):
    with LatencyBench(net, solver, protocol) as bench:
        *_, plain = bench.sampling_run(TIGHT)()
    with LatencyBench(net, solver, replace(protocol, compile=True)) as bench:
        *_, compiled = bench.sampling_run(TIGHT)()
    assert torch.allclose(compiled, plain, atol=1e-5)


def test_a_compiler_that_does_not_work_is_an_error_of_the_settings(
    net, solver, protocol, monkeypatch
):
    def broken(block, dynamic):
        block.forward = None

    monkeypatch.setattr(nn.Linear, "compile", broken)
    with pytest.raises(ConfigError, match=r"torch\.compile, which failed here \(TypeError: "):
        measure_table(net, solver, replace(protocol, compile=True), repeats=3)
    assert not torch.is_inference_mode_enabled()  # what was set up is undone


def test_what_fails_before_it_is_set_up_leaves_nothing_behind(net, solver, protocol, monkeypatch):
    def full(module, _memo):
        raise torch.OutOfMemoryError("no room for a copy")

    monkeypatch.setattr(type(net), "__deepcopy__", full, raising=False)
    threads = torch.get_num_threads()
    other = replace(protocol, dtype="bfloat16", threads=threads + 1)
    with pytest.raises(torch.OutOfMemoryError), LatencyBench(net, solver, other):
        pass
    assert not torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == threads


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_timed_to_the_end(net, solver, protocol):
    on_gpu = LatencyProtocol(**{**protocol.to_dict(), "batch": 64, "dtype": "float16"})
    found = measure_interleaved(net.to("cuda"), {"tight": TIGHT}, solver, on_gpu, repeats=5)
    assert all(m.median_ms > 0 for m in found.values())

"""Schedules moved between processes at equal signal-to-noise ratios."""

import itertools
import math

import pytest
import torch

from schedsearch.diffusion.process import build_process
from schedsearch.schedules.clocks import PROCESSES, time_of_same_snr
from schedsearch.schedules.edges import equal_edges, shifted_edges
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import HAND_MADE, preset_for, presets
from schedsearch.settings import DiffusionSettings


@pytest.mark.parametrize(("name", "betas"), [("ddpm", "linear"), ("vp", "vp")])
def test_ratios_are_those_of_the_process(name: str, betas: str) -> None:
    process = build_process(DiffusionSettings(betas=betas))  # type: ignore[arg-type]
    ours = PROCESSES[name]
    for t in (1.0, 37.5, 400.0, 998.0):
        assert ours.half_log_snr(t) == pytest.approx(process.half_log_snr(t), abs=1e-9)
        assert ours.time_at_half_log_snr(ours.half_log_snr(t)) == pytest.approx(t, abs=1e-6)


def test_flow_times_with_the_ratios_of_ddpm() -> None:
    ends = [time_of_same_snr("ddpm", t, "flow") for t in range(100, 1000, 100)]
    assert [round(t) for t in ends] == [255, 420, 554, 671, 775, 861, 923, 963, 984]
    assert PROCESSES["flow"].half_log_snr(500.0) == 0
    assert 2 * PROCESSES["flow"].half_log_snr(100.0) == pytest.approx(2 * math.log(9))


@pytest.mark.parametrize("edges", [None, shifted_edges(10, 3.0)])
@pytest.mark.parametrize("name", [name for name in HAND_MADE if "U-ViT" not in name])
def test_a_moved_preset_has_the_depth_of_the_same_ratio(
    name: str, edges: tuple[float, ...] | None
) -> None:
    moved = preset_for(f"{name}@flow", 28, edges=edges)
    assert moved.edges == edges
    assert moved.clock == "flow"
    process = build_process(DiffusionSettings())
    for low, high in itertools.pairwise(edges or equal_edges(10)):
        sigma = (low + high) / 2000
        t = process.time_at_half_log_snr(math.log((1 - sigma) / sigma))
        assert moved.depth_at((low + high) / 2) == presets[name].depth_at(t)


def test_presets_on_the_flow_clock() -> None:
    assert presets["D3-DiT@flow"].depths == (28, 28, 28, 28, 24, 24, 24, 20, 20, 16)
    assert preset_for("D3-DiT@flow", 10).depths == (10, 10, 10, 10, 9, 9, 9, 7, 7, 6)
    assert presets["D1-U-ViT@flow"].depths == (6, 6, 6, 6, 4, 4, 4, 2, 2, 2)
    assert preset_for("D3-DiT@flow", 28, num_intervals=4).num_intervals == 4
    # Edges by shift 3 are nearly the intervals of DDPM up to the middle.
    near = preset_for("D3-DiT@flow", 28, edges=shifted_edges(10, 3.0)).depths
    assert near[:5] == presets["D3-DiT"].depths[:5]


def test_moving_to_the_same_process_changes_nothing() -> None:
    schedule = ExitSchedule((9, 8, 7, 5, 3))
    assert schedule.moved("flow", "flow", num_intervals=5) == schedule
    assert schedule.moved("vp", "vp", num_intervals=5) == schedule
    flow = PROCESSES["flow"]
    assert schedule.moved(flow, "ddpm").depths == schedule.moved("flow", "ddpm").depths
    with pytest.raises(ValueError, match="ddpm, vp, flow, got 'cosine'"):
        schedule.moved("cosine", "flow")


def test_a_plain_preset_keeps_its_depths_on_any_edges() -> None:
    edges = shifted_edges(10, 3.0)
    preset = preset_for("D2-DiT", 28, edges=edges)
    assert preset == ExitSchedule(presets["D2-DiT"].depths, edges)
    assert preset.depths_at(torch.tensor([240.0, 990.0])).tolist() == [28, 16]

"""``space.edges``, and schedules that are written for a clock."""

from collections.abc import Callable
from pathlib import Path

import pytest

from schedsearch.config import InvalidFileError, read_settings, settings_from_text
from schedsearch.config.writing import dump_settings
from schedsearch.schedules.edges import shifted_edges
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import preset_for, presets
from schedsearch.search.study.warm_starts import read_warm_starts

Edited = Callable[..., Path]
SPACE = "space: {min_depth: 2, max_depth: 10"
FLOW = (
    "data: {source: digits}",
    "data: {source: digits}\n"
    "diffusion: {process: flow, time: sit}\n"
    "solver: {name: flow_euler, num_steps: 20}",
)


def with_edges(edges: str) -> tuple[str, str]:
    return SPACE, f"{SPACE}, edges: {edges}"


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ("equal", None),
        ("{shift: 1}", None),
        ("{shift: 3.0}", shifted_edges(10, 3.0)),
        ("[0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]", None),
        (
            "[0, 250, 400, 500, 600, 700, 800, 850, 900, 950.5, 1000]",
            (0.0, 250.0, 400.0, 500.0, 600.0, 700.0, 800.0, 850.0, 900.0, 950.5, 1000.0),
        ),
    ],
)
def test_three_ways_to_write_them(
    edited: Edited, edges: str, expected: tuple[float, ...] | None
) -> None:
    settings = read_settings(edited(with_edges(edges)))
    assert settings.space.build().edges == expected
    again = settings_from_text(dump_settings(settings))
    assert again.space == settings.space
    starts = {start.label: start.schedule for start in read_warm_starts(settings, 10)}
    assert starts["full"] == ExitSchedule((10,) * 10, expected)
    assert starts["D3-DiT"] == ExitSchedule(preset_for("D3-DiT", 10).depths, expected)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (
            "[0, 500, 1000]",
            "space.edges: 10 intervals have 11 edges, got 3; set num_intervals to 2",
        ),
        ("{shift: 0}", "space.edges.shift: must be > 0"),
        ("{shfit: 3}", "space.edges"),
        ("{shift: 2000}", "space.edges: edges rise by at least 1"),
        ("equl", "space.edges: must be equal"),
        ("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 900]", "edges go from 0 to 1000, got 0 to 900"),
        ("[0, 1, 2, 3, 4, 5, 6, 7, 8, x, 1000]", "space.edges[9]: must be a number"),
    ],
)
def test_mistakes_are_named(edited: Edited, edges: str, message: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        read_settings(edited(with_edges(edges)))
    assert message in str(caught.value)


def test_moved_presets_and_lists_belong_to_a_flow_space(edited: Edited) -> None:
    path = edited(
        with_edges("{shift: 3}"),
        FLOW,
        ("[full, D3-DiT]", "[full, D3-DiT@flow, [9, 9, 9, 9, 9, 8, 8, 8, 8, 8]]"),
    )
    edges = shifted_edges(10, 3.0)
    _, moved, listed = read_warm_starts(read_settings(path), 10)
    assert moved.label == "D3-DiT@flow"
    assert moved.schedule == preset_for("D3-DiT@flow", 10, min_depth=2, edges=edges)
    assert moved.schedule.depths != preset_for("D3-DiT@flow", 10).depths
    assert listed.schedule == ExitSchedule((9,) * 5 + (8,) * 5, edges)


def test_a_moved_preset_on_the_clock_of_ddpm_is_refused(edited: Edited) -> None:
    with pytest.raises(InvalidFileError, match="D3-DiT@flow is for the clock flow, not ddpm"):
        read_settings(edited(("D3-DiT]", "D3-DiT@flow]")))
    rivals = "rivals: {mine: {kind: schedule, schedules: [D3-DiT@flow]}}\nsearch:"
    with pytest.raises(InvalidFileError, match="is written for the clock flow"):
        read_settings(edited(("D3-DiT@flow]", "D3-DiT]"), ("search:", rivals)))


def test_unknown_presets_name_the_nearest(edited: Edited) -> None:
    with pytest.raises(InvalidFileError, match="did you mean 'D3-DiT@flow'"):
        read_settings(edited(("D3-DiT]", "D3-DiT@flwo]")))


def test_a_schedule_file_of_another_clock_or_other_edges_is_refused(edited: Edited) -> None:
    depths = list(presets["D3-DiT"].depths)
    scaled = [max(2, depth * 10 // 28) for depth in depths]
    lines = "backbone: {family: dit, num_exit_blocks: 10}\n" + f"depths: {scaled}\n"
    path = edited(FLOW, ("D3-DiT]", "mine.yaml]"))
    file = path.parent / "mine.yaml"
    file.write_text(f"schema: schedsearch.schedule/1\nname: mine\n{lines}")
    with pytest.raises(InvalidFileError, match="the clock ddpm, but the model's process has"):
        read_settings(path)
    file.write_text(f"schema: schedsearch.schedule/2\nname: mine\n{lines}clock: flow\n")
    (_, mine) = read_warm_starts(read_settings(path), 10)
    assert mine.schedule.depths == tuple(scaled)
    edited(with_edges("{shift: 3}"))
    with pytest.raises(InvalidFileError, match=r"has the edges equal, the space 0 250"):
        read_settings(path)

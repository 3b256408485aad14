"""Schedule files."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from schedsearch.config import InvalidFileError
from schedsearch.exceptions import ConfigError
from schedsearch.schedules.edges import shifted_edges
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.schedule_file import (
    ScheduledBackbone,
    ScheduleFile,
    load_schedule,
    read_schedule_file,
    write_schedule_file,
)

D3 = ScheduleFile(
    name="D3-DiT",
    backbone=ScheduledBackbone(family="dit", num_exit_blocks=28, fingerprint="sha256:00ff"),
    depths=(28, 28, 24, 24, 20, 20, 16, 16, 12, 12),
    measured={"fid": 3.25, "fid_ci95": [3.0, 3.5], "latency_ms": 1e-7, "solver": "ddim"},
    provenance={"study": "digits", "trial": 7, "versions": {"torch": "2.11", "python": "3.11"}},
    weights="ema.safetensors",
)


def test_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "d3.yaml"
    write_schedule_file(file, D3)
    assert read_schedule_file(file) == D3
    assert load_schedule(file) == D3.schedule == ExitSchedule(D3.depths)
    assert [p.name for p in tmp_path.iterdir()] == ["d3.yaml"], "no temporary file is left"
    keys = re.findall(r"^(\w+):", file.read_text(), flags=re.MULTILINE)
    assert keys == ["schema", "name", "backbone", "depths", "measured", "provenance", "weights"]
    assert "depths: [28, 28, 24, 24, 20, 20, 16, 16, 12, 12]\n" in file.read_text()


def test_what_is_unknown_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    bare = ScheduleFile(
        name="s", backbone=ScheduledBackbone(family="dit", num_exit_blocks=3), depths=(3, 1)
    )
    write_schedule_file(file, bare)
    assert "null" not in file.read_text()
    assert "weights" not in file.read_text()
    assert read_schedule_file(file) == bare


@pytest.mark.parametrize(
    "value",
    ["/home/me/x", "~/x", "C:\\Users\\me", "saved to /tmp/x", "path=/root/x", float("nan")],
)
def test_nothing_private_or_infinite_is_written(tmp_path: Path, value: object) -> None:
    content = ScheduleFile(
        name="s",
        backbone=ScheduledBackbone(family="dit", num_exit_blocks=3),
        depths=(3,),
        provenance={"versions": {"x": [value]}},
    )
    with pytest.raises(ValueError, match=r"provenance\.versions\.x\[0\]"):
        write_schedule_file(tmp_path / "s.yaml", content)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot write"):
        write_schedule_file(tmp_path / "no" / "s.yaml", D3)
    with pytest.raises(ConfigError, match="Cannot read"):
        read_schedule_file(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "schema: schedsearch.schedule/1\n",
            "",
            "not a schedule file; a schedule file begins",
        ),
        ("schedule/1", "schedule/3", "mine.yaml:1:1: schema: unknown version"),
        ("schedule/1", "front/1", "unknown schema 'schedsearch.front/1'"),
        ("10, 10, 9", "10, 11, 9", "mine.yaml:4:14: depths[1]: must be in [1, 10]"),
        ("10, 10, 9", "10, 0, 9", "depths[1]: must be in [1, 10], the exit blocks, got 0"),
        ("10, 10, 9", "10, -1, 9", "depths[1]: must be >= 0, got -1"),
        ("10, 10, 9", "10, 10.0, 9", "depths[1]: must be an integer, got 10.0"),
        ("10, 10, 9", "10, true, 9", "depths[1]: must be an integer, got true"),
        ("[10, 10, 9, 9, 8, 8, 7, 7, 6, 6]", "[]", "depths: must be a list of at least 1"),
        ("[10, 10, 9, 9, 8, 8, 7, 7, 6, 6]", "ten", "depths: must be a list, got the text"),
        ("depths:", "depth:", "depth: unknown key; did you mean 'depths'?"),
        ("num_exit_blocks", "exit_blocks", "backbone.num_exit_blocks: required key is missing"),
        ("name: mine\n", "", "name: required key is missing"),
        ("name: mine", 'name: "mine\\nDone."', "name: must be one line of 1 to 200 characters"),
        ("name: mine", f"name: {'x' * 201}", "name: must be one line of 1 to 200 characters"),
        ("name: mine", "name: mine\nname: yours", "mine.yaml:3:1: name: duplicate key"),
        ("name: mine", "name: !!python/name:os.system x", "tag"),
        ("depths:", "weights: /etc/passwd\ndepths:", "weights: must be a path inside the folder"),
        ("depths:", "weights: ../x\ndepths:", "weights: must be a path inside the folder"),
    ],
)
def test_malformed_files(
    schedule_file_with: Callable[..., Path], old: str, new: str, message: str
) -> None:
    with pytest.raises(InvalidFileError, match=re.escape(message)):
        read_schedule_file(schedule_file_with((old, new)))


def test_any_shape_is_a_schedule(schedule_file_with: Callable[..., Path]) -> None:
    file = schedule_file_with(("[10, 10, 9, 9, 8, 8, 7, 7, 6, 6]", "[1, 9, 3]"))
    assert load_schedule(file).depths == (1, 9, 3)


def test_edges_and_a_flow_clock_need_the_second_schema(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    edges = shifted_edges(10, 3.0)
    for changes, lines in (
        ({"edges": edges}, ["edges"]),
        ({"clock": "flow"}, ["clock"]),
        ({"edges": edges, "clock": "flow"}, ["edges", "clock"]),
    ):
        content = dataclasses.replace(D3, **changes)
        write_schedule_file(file, content)
        text = file.read_text()
        keys = re.findall(r"^(\w+):", text, flags=re.MULTILINE)
        assert keys[:4] == ["schema", "name", "backbone", "depths"]
        assert keys[4 : 4 + len(lines)] == lines
        assert text.startswith("schema: schedsearch.schedule/2\n")
        assert read_schedule_file(file) == content
        schedule = load_schedule(file)
        assert (schedule.edges, schedule.clock) == (changes.get("edges"), content.clock)
        file.write_text(text.replace("schedule/2", "schedule/1"))
        with pytest.raises(InvalidFileError, match=r"write schema: schedsearch\.schedule/2"):
            read_schedule_file(file)


def test_a_file_of_the_first_schema_is_on_the_clock_of_ddpm(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    write_schedule_file(file, D3)
    assert file.read_text().startswith("schema: schedsearch.schedule/1\n")
    assert load_schedule(file).clock == "ddpm"
    assert load_schedule(file).edges is None


def test_wrong_edges_are_named(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    write_schedule_file(file, dataclasses.replace(D3, edges=shifted_edges(10, 3.0)))
    file.write_text(re.sub(r"edges: \[0.0, 250.0, ", "edges: [0.0, ", file.read_text()))
    with pytest.raises(InvalidFileError, match="edges: 10 intervals have 11 edges, got 10"):
        read_schedule_file(file)

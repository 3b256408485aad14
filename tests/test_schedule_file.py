"""Schedule files and schedules on the command line."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from schedsearch.config import InvalidFileError, read_settings
from schedsearch.exceptions import ConfigError
from schedsearch.hand_made import preset_for
from schedsearch.schedule import ExitSchedule
from schedsearch.schedule_file import (
    ScheduledBackbone,
    ScheduleFile,
    load_schedule,
    lowest_depth,
    read_schedule_file,
    resolve_schedule,
    write_schedule_file,
)
from schedsearch.warm_starts import read_warm_starts

D3 = ScheduleFile(
    name="D3-DiT",
    backbone=ScheduledBackbone(family="dit", num_exit_blocks=28, fingerprint="sha256:00ff"),
    depths=(28, 28, 24, 24, 20, 20, 16, 16, 12, 12),
    measured={"fid": 3.25, "fid_ci95": [3.0, 3.5], "latency_ms": 1e-7, "solver": "ddim"},
    provenance={"study": "digits", "trial": 7, "versions": {"torch": "2.11", "python": "3.11"}},
    weights="ema.safetensors",
)

TEXT = """\
schema: schedsearch.schedule/1
name: mine
backbone: {family: dit, num_exit_blocks: 10}
depths: [10, 10, 9, 9, 8, 8, 7, 7, 6, 6]
"""


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    def edit(*pairs: tuple[str, str]) -> Path:
        text = TEXT
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        return file

    return edit


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
        ("schema: schedsearch.schedule/1\n", "", "not a schedule file; a schedule file begins"),
        ("schedule/1", "schedule/2", "mine.yaml:1:1: schema: unknown version"),
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
        ("name: mine", "name: mine\nname: yours", "mine.yaml:3:1: name: duplicate key"),
        ("name: mine", "name: !!python/name:os.system x", "tag"),
        ("depths:", "weights: /etc/passwd\ndepths:", "weights: must be a path inside the folder"),
        ("depths:", "weights: ../x\ndepths:", "weights: must be a path inside the folder"),
    ],
)
def test_malformed_files(edited: Callable[..., Path], old: str, new: str, message: str) -> None:
    with pytest.raises(InvalidFileError, match=re.escape(message)):
        read_schedule_file(edited((old, new)))


def test_any_shape_is_a_schedule(edited: Callable[..., Path]) -> None:
    file = edited(("[10, 10, 9, 9, 8, 8, 7, 7, 6, 6]", "[1, 9, 3]"))
    assert load_schedule(file).depths == (1, 9, 3)


# ---- on the command line ----------------------------------------------------------------------


def test_resolve_schedule(edited: Callable[..., Path]) -> None:
    def resolve(spec: str) -> tuple[int, ...]:
        return resolve_schedule(spec, num_exit_blocks=10).depths

    assert resolve("full") == (10,) * 10
    assert resolve("D3-DiT") == preset_for("D3-DiT", 10).depths
    assert resolve("9,9,8,8,7,7,6,6,5,5") == (9, 9, 8, 8, 7, 7, 6, 6, 5, 5)
    assert resolve("[9 9 8 8 7 7 6 6 5 5]") == (9, 9, 8, 8, 7, 7, 6, 6, 5, 5)
    assert resolve("4") == (4,) * 10
    assert resolve(str(edited())) == (10, 10, 9, 9, 8, 8, 7, 7, 6, 6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("D3-DIT", "did you mean 'D3-DiT'"),
        ("nowhere.yaml", "no schedule file or preset 'nowhere.yaml'; presets are full"),
        ("9,9,8", "needs 10 depths, data to noise, got 3"),
        ("11", r"index 0 of '11' must be in \[1, 10\]"),
        ("9,9,9,0,9,9,9,9,9,9", "index 3"),
        ("9,9-,9", "list of integers"),
    ],
)
def test_schedules_that_are_not(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_schedule(spec, num_exit_blocks=10)


def test_a_u_vit_may_run_no_decoder_block(edited: Callable[..., Path]) -> None:
    def resolve(spec: str) -> tuple[int, ...]:
        return resolve_schedule(spec, num_exit_blocks=6, min_depth=lowest_depth("uvit")).depths

    assert [lowest_depth(family) for family in ("dit", "uvit", None, "mine:Net")] == [1, 0, 0, 0]
    assert resolve("2,2,1,0,0,0,0,0,0,0") == (2, 2, 1, 0, 0, 0, 0, 0, 0, 0)
    assert resolve("0") == (0,) * 10
    assert resolve("D6-U-ViT") == (2, 2, 2, 2, 1, 1, 1, 1, 1, 1)
    small = resolve_schedule("D6-U-ViT", num_exit_blocks=1, min_depth=0)
    assert small.depths == (1,) * 10, "a preset keeps a block where it rounds to none"
    with pytest.raises(ConfigError, match=r"index 0 of '7' must be in \[0, 6\]"):
        resolve("7")

    file = str(edited(("family: dit", "family: uvit"), ("7, 7, 6, 6]", "1, 0, 0, 0]")))
    deep = {"num_exit_blocks": 10}
    found = resolve_schedule(file, **deep, min_depth=lowest_depth("uvit"))
    assert found.depths == (10, 10, 9, 9, 8, 8, 1, 0, 0, 0)
    with pytest.raises(ConfigError, match="runs 0 blocks, but the backbone at least 1"):
        resolve_schedule(file, **deep, min_depth=lowest_depth("dit"))


def test_a_file_for_another_model_is_refused(edited: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="for 10 exit blocks, but the backbone has 28"):
        resolve_schedule(str(edited()), num_exit_blocks=28)


# ---- warm starts ------------------------------------------------------------------------------

SPACE = """\
name: toy
backbone: {family: dit, config: {depth: 10, hidden_size: 64, num_heads: 4, input_size: 8, \
in_channels: 1, num_classes: 10}, checkpoint: package:digits_dit.safetensors}
data: {source: digits}
space: {min_depth: 2, max_depth: 10}
trainer: schedsearch.space:SearchSpace
recipe: {num_steps: 1, batch_size: 1, lr: 1}
search: {n_trials: 4}
warm_start: [full, D3-DiT, D3-DiT, [10, 10, 10, 10, 10, 10, 10, 10, 10, 10], mine.yaml]
"""


def test_warm_starts_are_scaled_read_and_made_unique(edited: Callable[..., Path]) -> None:
    space = edited().parent / "space.yaml"
    space.write_text(SPACE)
    starts = read_warm_starts(read_settings(space), 10)
    assert [(s.label, s.schedule.depths) for s in starts] == [
        ("full", (10,) * 10),
        ("D3-DiT", (10, 10, 9, 9, 7, 7, 6, 6, 4, 4)),
        ("mine", (10, 10, 9, 9, 8, 8, 7, 7, 6, 6)),
    ]
    with pytest.raises(InvalidFileError, match="at least the 3 different warm starts, got 2"):
        read_warm_starts(read_settings(space, ["search.n_trials=2"]), 10)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("6, 6]", "6, 1]", r"warm_start\[4\]: mine .* is not in the space: interval 9 runs 1"),
        ("num_exit_blocks: 10", "num_exit_blocks: 12", "for 12 exit blocks, but the backbone"),
        ("6, 6]", "6, 99]", r"mine\.yaml:4:39: depths\[9\]: must be in"),
    ],
)
def test_wrong_warm_start_files(
    edited: Callable[..., Path], old: str, new: str, message: str
) -> None:
    space = edited((old, new)).parent / "space.yaml"
    space.write_text(SPACE)
    with pytest.raises(InvalidFileError, match=message):
        read_warm_starts(read_settings(space), 10)

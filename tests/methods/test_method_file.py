"""Method files: what is written is read, and every mistake is one clear line."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from schedsearch.config import InvalidFileError
from schedsearch.exceptions import ConfigError
from schedsearch.methods.method_file import (
    MethodFile,
    check_fits,
    read_method_file,
    write_method_file,
)
from schedsearch.schedules.schedule_file import ScheduledBackbone

PLAN = MethodFile(
    name="blocks@0.7",
    kind="block_cache",
    backbone=ScheduledBackbone(family="dit", num_exit_blocks=5, fingerprint="sha256:00ff"),
    solver="ddim",
    num_steps=2,
    numbers={"parts": ["attention"], "recompute": ["11111", "01000"], "scale_shift": True},
    network={"keep": [0, 2]},
    weights="cells.safetensors",
    measured={"fid": 3.25, "fid_ci95": [3.0, 3.5], "latency_ms": 1e-7},
    provenance={"study": "digits", "versions": {"torch": "2.11"}},
)
BARE = MethodFile(
    name="s", kind="steps", backbone=ScheduledBackbone(family="uvit", num_exit_blocks=4)
)

TEXT = """\
schema: schedsearch.method/1
name: mine
kind: residual_cache
backbone: {family: dit, num_exit_blocks: 10}
num_steps: 20
numbers: {first: 1, signal: residual, threshold: 0.08}
weights: model.safetensors
"""


def test_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    write_method_file(file, PLAN)
    assert read_method_file(file) == PLAN
    assert [path.name for path in tmp_path.iterdir()] == ["m.yaml"], "no temporary file is left"
    text = file.read_text()
    assert re.findall(r"^(\w+):", text, flags=re.MULTILINE) == [
        "schema",
        "name",
        "kind",
        "backbone",
        "solver",
        "num_steps",
        "numbers",
        "network",
        "weights",
        "measured",
        "provenance",
    ]
    write_method_file(file, read_method_file(file))
    assert file.read_text() == text


def test_rows_of_bits_stay_text(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    rows = ["1111", "0000", "0100", "1e10"]
    write_method_file(file, replace(PLAN, numbers={"recompute": rows}))
    assert read_method_file(file).numbers["recompute"] == rows


def test_what_is_unknown_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    write_method_file(file, BARE)
    keys = re.findall(r"^(\w+):", file.read_text(), flags=re.MULTILINE)
    assert keys == ["schema", "name", "kind", "backbone"]
    assert "null" not in file.read_text()
    assert read_method_file(file) == BARE


@pytest.mark.parametrize("field", ["numbers", "network", "measured", "provenance"])
@pytest.mark.parametrize(
    "value", ["/srv/me/x", "~/x", "C:\\Users\\me", "path=/opt/x", float("nan"), float("inf")]
)
def test_nothing_private_or_infinite_is_written(tmp_path: Path, field: str, value: object) -> None:
    content = replace(PLAN, **{field: {"a": {"b": [1, value]}}})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"method file .*{field}\.a\.b\[1\] is"):
        write_method_file(tmp_path / "m.yaml", content)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot write"):
        write_method_file(tmp_path / "no" / "m.yaml", PLAN)
    with pytest.raises(ConfigError, match="Cannot read"):
        read_method_file(tmp_path / "m.yaml")


def test_the_text_of_these_tests_is_a_method(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(TEXT)
    found = read_method_file(tmp_path / "mine.yaml")
    assert found.numbers == {"first": 1, "signal": "residual", "threshold": 0.08}
    assert (found.kind, found.num_steps, found.solver) == ("residual_cache", 20, None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "schema: schedsearch.method/1\n",
            "",
            "mine.yaml:1:1: not a method file; a method file begins with 'schema: ",
        ),
        ("method/1", "method/2", "mine.yaml:1:1: schema: unknown version 'schedsearch.method/2'"),
        ("schedsearch.method/1", "other/1", "mine.yaml:1:1: schema: unknown schema 'other/1'"),
        ("residual_cache", "residual_cash", "mine.yaml:3:1: kind: must be schedule, steps, "),
        ("kind: residual_cache\n", "", "kind: required key is missing"),
        ("name: mine", "name: ''", "mine.yaml:2:1: name: "),
        ("name: mine", "name: 3", "name: must be text, got 3; put it in quotes"),
        ("num_exit_blocks: 10", "num_exit_blocks: 0", "num_exit_blocks: must be >= 1, got 0"),
        ("num_steps: 20", "num_steps: 0", "mine.yaml:5:1: num_steps: must be >= 1, got 0"),
        ("num_steps: 20", "num_steps: 20.5", "num_steps: must be an integer, got 20.5"),
        ("num_steps", "num_step", "num_step: unknown key; did you mean 'num_steps'?"),
        ("numbers: {first: 1, signal: residual, threshold: 0.08}", "numbers: 7", "numbers: must"),
        ("0.08", ".nan", "threshold"),
        ("model.safetensors", "/etc/passwd", "mine.yaml:7:1: weights: must be a path inside the"),
        ("model.safetensors", "C:\\x", "weights: must be a path inside the folder"),
        ("model.safetensors", "../x", "weights: must be a path inside the folder"),
        ("model.safetensors", "''", "weights: must be a path inside the folder"),
        ("name: mine", "name: mine\nname: yours", "mine.yaml:3:1: name: duplicate key"),
    ],
)
def test_malformed_files(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    (tmp_path / "mine.yaml").write_text(TEXT.replace(old, new))
    with pytest.raises(InvalidFileError, match=re.escape(message)) as caught:
        read_method_file(tmp_path / "mine.yaml")
    assert len(str(caught.value).splitlines()) == 1


def test_all_mistakes_are_listed(tmp_path: Path) -> None:
    text = TEXT.replace("name: mine", "name: 3").replace("num_steps: 20", "num_steps: 0")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InvalidFileError) as caught:
        read_method_file(tmp_path / "mine.yaml")
    assert [problem.key for problem in caught.value.problems] == ["name", "num_steps"]


# ---- where it fits ------------------------------------------------------------------------------


def test_it_fits_its_own_model_and_steps() -> None:
    check_fits(PLAN, "m.yaml", num_exit_blocks=5, family="dit", solver="ddim", num_steps=2)
    check_fits(PLAN, "m.yaml", num_exit_blocks=5, family=None, solver="ddim", num_steps=2)
    check_fits(BARE, "m.yaml", num_exit_blocks=4, family="uvit", solver="ddpm", num_steps=50)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"num_exit_blocks": 6}, "5 exit blocks, but the backbone has 6"),
        ({"family": "uvit"}, "the family dit, but the backbone is a uvit"),
        ({"solver": "ddpm"}, "the solver ddim, but got ddpm"),
        ({"num_steps": 3}, "2 solver steps, but the solver takes 3"),
    ],
)
def test_another_model_solver_or_number_of_steps_is_refused(
    changed: dict[str, object], reason: str
) -> None:
    setting = {
        "num_exit_blocks": 5,
        "family": "dit",
        "solver": "ddim",
        "num_steps": 2,
        **changed,
    }
    with pytest.raises(ConfigError) as caught:
        check_fits(PLAN, "m.yaml", **setting)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"m.yaml: the method is for {reason}. Make one for this setting with "
        "`schedsearch plan` or `schedsearch compare`."
    )

"""Files that are passed on: what they may hold, and how their first line is judged."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from schedsearch.exceptions import ConfigError
from schedsearch.files.portable import check_weights_path, read_portable, write_portable
from schedsearch.files.problems import Findings, InvalidFileError

SCHEMA = "schedsearch.thing/1"


def write(folder: Path, data: Mapping[str, Any]) -> Path:
    write_portable(folder / "t.yaml", {"schema": SCHEMA, **data}, "thing file")
    return folder / "t.yaml"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    data = {"a": 1, "b": [1.5e-9, {"c": None}], "d": "text: with, signs", "e": {"1": True}}
    content, findings = read_portable(write(tmp_path, data), SCHEMA, "thing file")
    assert content == data
    assert list(content) == list(data)
    assert findings.problems == []


def test_tuples_become_lists(tmp_path: Path) -> None:
    content, _ = read_portable(write(tmp_path, {"a": ((1, 2), [3])}), SCHEMA, "thing file")
    assert content == {"a": [[1, 2], [3]]}


@pytest.mark.parametrize(
    "value",
    ["/srv/me", "~/x", "C:\\x", "d:/x", "saved to /tmp/x", "x='/opt/y'", "a:/b", "(/opt/x)"],
)
def test_absolute_paths_are_refused_as_values_and_keys(tmp_path: Path, value: str) -> None:
    for data in ({"a": [value]}, {"a": {value: 1}}, {"a": (value,)}):
        with pytest.raises(ValueError, match="A thing file is passed on, so it holds no absolute"):
            write(tmp_path, data)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["model.safetensors", "a/b", "1/2", "ms / image", "ratio: 3"])
def test_other_text_is_not_taken_for_a_path(tmp_path: Path, value: str) -> None:
    content, _ = read_portable(write(tmp_path, {"a": value}), SCHEMA, "thing file")
    assert content == {"a": value}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match=r"holds finite numbers, but a\.b\[0\] is"):
        write(tmp_path, {"a": {"b": [value]}})
    assert list(tmp_path.iterdir()) == []


def test_a_refused_file_leaves_the_old_one(tmp_path: Path) -> None:
    file = write(tmp_path, {"a": 1})
    before = file.read_text()
    with pytest.raises(ValueError, match="finite"):
        write(tmp_path, {"a": float("nan")})
    assert file.read_text() == before


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "no", tmp_path / "file"):
        with pytest.raises(ConfigError, match=r"Cannot write .*t\.yaml: "):
            write(folder, {"a": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema: schedsearch.thing/2\n", "t.yaml:1:1: schema: unknown version"),
        ("a: 1\n", f"t.yaml:1:1: not a thing file; a thing file begins with 'schema: {SCHEMA}'"),
        ("a: 1\nschema: other.thing/1\n", "t.yaml:2:1: schema: unknown schema 'other.thing/1'"),
        ("schema: 1\n", "unknown schema 1"),
        ("- 1\n", "t.yaml"),
        ("", "t.yaml"),
        ("schema: [\n", "t.yaml"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(text)
    with pytest.raises(InvalidFileError, match=re.escape(message)) as caught:
        read_portable(file, SCHEMA, "thing file")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("weights", ["/x", "C:\\x", "C:x", "..", "a/../b", "..\\x", "", "."])
def test_weights_outside_the_folder_of_their_file(weights: str) -> None:
    findings = Findings("t.yaml")
    check_weights_path(weights, "thing file", findings)
    (problem,) = findings.problems
    assert problem.key == "weights"
    assert "must be a path inside the folder of the file" in problem.reason
    assert problem.remedy == "put the weights beside the thing file"


@pytest.mark.parametrize("weights", [None, "a.safetensors", "below/a.safetensors"])
def test_weights_beside_or_below_their_file(weights: str | None) -> None:
    findings = Findings("t.yaml")
    check_weights_path(weights, "thing file", findings)
    assert findings.problems == []


def test_a_file_may_carry_a_checksum(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    write_portable(path, {"schema": SCHEMA, "a": 3}, "thing file", place="")
    assert read_portable(path, SCHEMA, "thing file")[0] == {"a": 3}
    text = path.read_text()
    path.write_text(text.replace("a: 3", "a: 4"))
    with pytest.raises(InvalidFileError, match="does not match its checksum"):
        read_portable(path, SCHEMA, "thing file")
    path.write_text(text.replace("a: 3", "a: 4").partition("\n")[2])
    assert read_portable(path, SCHEMA, "thing file")[0] == {"a": 4}

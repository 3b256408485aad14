"""Strict YAML."""

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from schedsearch.files.problems import MAX_PROBLEMS, Findings, InvalidFileError
from schedsearch.files.strict_yaml import MAX_BYTES, parse_document


def read(text: str | bytes) -> tuple[Any, list[str]]:
    findings = Findings("f.yaml")
    return parse_document(text, findings).data, [str(problem) for problem in findings.problems]


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("1e-5", 1e-5),
        ("5.0e-4", 5e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("2.", 2.0),
        ("-3", -3),
        ("+4", 4),
        ("0", 0),
        ("0x1F", 31),
        ("0o17", 15),
        ("010", "010"),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("1e", "1e"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ('"true"', "true"),
    ],
)
def test_scalars_of_yaml_1_2(scalar: str, value: object) -> None:
    data, problems = read(f"key: {scalar}\n")
    assert problems == []
    assert data["key"] == value
    assert type(data["key"]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: a: duplicate key; it stands in line 1 already"),
        ("a: {b: 1,\n    b: 2}\n", "f.yaml:2:5: a.b: duplicate key"),
        ("a: 1\nb: *x\n", "f.yaml:2:4: aliases"),
        ("a: &x 1\n", "f.yaml:1:4: anchors"),
        ("a: !!python/name:os.system\n", "f.yaml:1:4: the tag tag:yaml.org,2002:python/name"),
        ("a: !mine 3\n", "f.yaml:1:4: the tag !mine"),
        ("a:\n\t- 1\n", "f.yaml:2:1: a tab stands where YAML wants spaces; indent with spaces"),
        ("a: [1, 2\nb: 3\n", "f.yaml:2:2:"),
        ("a: 1\n b: 2\n", "f.yaml:2:3:"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1: the file holds more than one document"),
        ("a: .inf\n", "f.yaml:1:1: a: must be a finite number, got .inf"),
        ("a: [1, .nan]\n", "f.yaml:1:8: a[1]: must be a finite number"),
        ("a: 1e999\n", "a: must be a finite number"),
        ("a: " + "9" * 5000 + "\n", "is too large"),
        ("? [1]\n: 2\n", "a key must be a word"),
        ("a: " + "[" * 50 + "]" * 50 + "\n", "nested deeper than 20 levels"),
        ("a: 1\nb: ü\x00\n", "f.yaml:2:5: the character '\\x00' is not allowed; remove it"),
        (b"a: 1\nb: \xff\n", "f.yaml:2:1: the file is not UTF-8 text"),
        (b"#" * (MAX_BYTES + 1), f"at most {MAX_BYTES} are read"),
    ],
)
def test_refusals_name_the_line(text: str | bytes, message: str) -> None:
    _, problems = read(text)
    (problem,) = problems
    assert message in problem


def test_a_python_tag_is_never_executed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    _, problems = read(f"a: !!python/object/apply:pathlib.Path.touch [{canary}]\n")
    assert [p for p in problems if "the tag tag:yaml.org,2002:python/object" in p] == problems
    assert not canary.exists()


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12)]
    data, problems = read("\n".join(lines))
    assert data is None
    assert len(problems) == MAX_PROBLEMS


def test_marks_lead_to_every_key() -> None:
    findings = Findings("f.yaml")
    marks = parse_document("a:\n  b: [1,\n    {c: 2}]\n", findings).marks
    assert marks[("a",)] == (1, 1)
    assert marks[("a", "b")] == (2, 3)
    assert marks[("a", "b", 0)] == (2, 7)
    assert marks[("a", "b", 1, "c")] == (3, 6)


NONSENSE = {
    "the same key": "a: 1\n" * 190_000,
    "other keys": "".join(f"k{i}: 1\n" for i in range(90_000)),
    "a long list": "a: [" + "x," * 450_000 + "]",
    "flow maps": "{" + "a: 1, " * 150_000 + "}",
    "dashes": "- a\n" * 240_000,
    "anchors": "".join(f"- &a{i} 1\n" for i in range(80_000)),
    "tags": "- !x 1\n" * 120_000,
    "a long word": "a: " + "9" * 900_000,
    "a long text": 'a: "' + "\\n" * 400_000 + '"',
    "brackets": "[" * 900_000,
    "comments": "# a\n" * 200_000,
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_of_a_megabyte_takes_no_two_seconds(kind: str) -> None:
    before = time.process_time()
    with contextlib.suppress(InvalidFileError):
        parse_document(NONSENSE[kind], Findings("f.yaml"))
    assert time.process_time() - before < 2


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ('name: "\\UFFFFFFFF"', 10),
        ('name: "\\U00110000"', 10),
        ('name: "\\ud800"', 10),
        ("%YAML " + "1" * 5000 + ".1\n---\na: 1", 16),
        ("a: \x85\x07", 5),
        ("? ? ? a", 3),
        ("a: !<tag:yaml.org,2002:int> x", 4),
    ],
)
def test_odd_escapes_are_a_mistake_with_its_place(text: str, column: int) -> None:
    _, (problem,) = read(text)
    assert problem.startswith(f"f.yaml:1:{column}: ")


def test_mistakes_are_capped() -> None:
    findings = Findings("f.yaml")
    mistakes = [(f"k{index}", "unknown key", None) for index in range(10_000)]
    with pytest.raises(InvalidFileError, match="more than 100 mistakes") as caught:
        findings.add_all(mistakes)
    assert len(caught.value.problems) == MAX_PROBLEMS + 1

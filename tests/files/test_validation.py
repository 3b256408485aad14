"""Data against types and rules."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import AfterValidator

from schedsearch.files.problems import Findings, Mistake
from schedsearch.files.validation import RuleError, rules, validate


def _check_word(word: str) -> str:
    if " " in word:
        raise RuleError(("", f"{word!r} is two words", "remove the space"))
    return word


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    low: int
    high: int
    word: Annotated[str, AfterValidator(_check_word)] = "fine"

    @rules
    def _rules(self) -> Iterator[Mistake]:
        if self.low > self.high:
            yield "low", f"must be <= high, got {self.low} and {self.high}", "swap them"
        if self.high > 9:
            yield "high", f"has two digits, got {self.high}", None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    inner: Range | None


def mistakes(kind: type, value: object) -> list[str]:
    findings = Findings("f", {("top", "inner"): (3, 5)})
    valid, made = validate(kind, value, ("top",), findings)
    assert valid == (not findings.problems) == (made is not None)
    return [str(problem) for problem in findings.problems]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"low": 1, "high": 2}, []),
        (
            {"low": 12, "high": 11},
            [
                "f:3:5: top.inner.low: must be <= high, got 12 and 11; swap them",
                "f:3:5: top.inner.high: has two digits, got 11",
            ],
        ),
        (
            {"low": 1, "high": 2, "word": "a b"},
            ["f:3:5: top.inner.word: 'a b' is two words; remove the space"],
        ),
        (
            {"low": 12, "high": "1"},
            ["f:3:5: top.inner.high: must be an integer, got the text '1'"],
        ),
    ],
)
def test_rules_of_a_nested_section_name_their_keys(
    value: dict[str, object], expected: list[str]
) -> None:
    found = mistakes(Outer, {"inner": value})
    assert [text.partition("; write the number")[0] for text in found] == expected


@pytest.mark.parametrize(
    ("kind", "value", "key"),
    [(Range | None, {"high": 1, "x": 1}, "x"), (Outer, {"inner": {"high": 1, "x": 1}}, "inner.x")],
)
def test_an_unknown_key_of_a_section_that_may_be_null(kind: type, value: object, key: str) -> None:
    known = "unknown key; known are low, high, word"
    assert any(f": top.{key}: {known}" in text for text in mistakes(kind, value))

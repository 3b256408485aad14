"""What may be compared."""

import pytest

from schedsearch.statistics.paired import how_sure, paired_difference
from schedsearch.statistics.same_protocol import Measured, require_same


def test_one_protocol() -> None:
    measured = Measured("digits CNN", 1000)
    assert require_same([measured, Measured("digits CNN", 1000, 0)]) == measured


@pytest.mark.parametrize(
    "other",
    [Measured("lenet", 1000), Measured("digits CNN", 500), Measured("digits CNN", 1000, 100)],
)
def test_nothing_is_compared_across_protocols(other: Measured) -> None:
    with pytest.raises(ValueError, match=r"n=1000, 0 further steps; .*|.*; digits CNN, n=1000"):
        require_same([Measured("digits CNN", 1000), other])


def test_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="no measurement"):
        require_same([])


def test_paired_differences() -> None:
    found = paired_difference({1: 1.0, 2: 5.0, 3: 2.0}, {1: 2.0, 2: 6.0, 4: 0.0})
    assert found is not None
    assert (found.mean, found.half_width, found.num_better, found.num_seeds) == (-1.0, 0.0, 2, 2)
    assert found.verdict == "better"
    assert paired_difference({1: 1.0}, {1: 2.0}) is None


@pytest.mark.parametrize(
    ("verdict", "num_better", "words"),
    [
        ("better", 5, "better, sure (5 of 5 seeds)"),
        ("better", 4, "better, fairly sure (4 of 5 seeds)"),
        ("worse", 0, "worse, sure (5 of 5 seeds)"),
        ("no difference", 3, "no difference seen (better at 3 of 5 seeds)"),
    ],
)
def test_how_sure(verdict: str, num_better: int, words: str) -> None:
    assert how_sure(verdict, num_better, 5) == words  # type: ignore[arg-type]

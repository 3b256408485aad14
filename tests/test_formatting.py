"""Numbers, titles and durations that people read."""

import shlex

import pytest

from schedsearch.formatting import duration, fid_title, for_shell, plus_minus, rounded


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.5121, "0.512"),
        (-0.0004, "-0.000"),
        (9.9871, "9.987"),
        (12.345, "12.35"),
        (273.95, "273.9"),
        (3078.738, "3079"),
        (318173822.4, "3.18e+08"),
    ],
)
def test_about_four_digits(value: float, shown: str) -> None:
    assert rounded(value) == shown


def test_an_interval_has_the_decimals_of_its_larger_part() -> None:
    assert plus_minus(-0.0171, 0.0098, sign=True) == "-0.017 ± 0.010"
    assert plus_minus(2.5, 12.75) == "2.50 ± 12.75"
    assert plus_minus(-1053.464, 67.627, sign=True) == "-1053 ± 68"
    assert plus_minus(318173822.4, 10366593.0) == "3.18e+08 ± 1e+07"
    assert rounded(-7.321, most=2) == "-7.32"
    assert rounded(31.4, sign=True, most=2) == "+31.4"


def test_a_fid_is_called_by_its_extractor_and_images() -> None:
    assert fid_title("digits CNN", 64) == "FID (digits CNN, n=64)"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (245.4, "4 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7830.0, "2 h 10 min"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize("name", ["plain", "my run", "it's", "a;rm -rf b", "$HOME", "-x", "実験"])
def test_a_path_in_a_command_can_be_pasted(name: str) -> None:
    (word,) = shlex.split(for_shell(name))
    assert word.removeprefix("./") == name
    assert not word.startswith("-")

"""JSON holds finite numbers of at most 64 bits, however they are written."""

import pytest

from schedsearch.files.strict_json import load_json, read_object


@pytest.mark.parametrize("number", [0, -3, 1.5e300, 2**63 - 1, -(2**63)])
def test_numbers_that_pass(number: float) -> None:
    assert read_object(f'{{"a": {number}}}', "x") == {"a": number}


@pytest.mark.parametrize(
    "number", ["1e999", "-1e999", "NaN", "Infinity", "1" + "0" * 400, "-" + "9" * 5000]
)
def test_numbers_that_no_measurement_gives(number: str) -> None:
    with pytest.raises(ValueError, match=r"no finite number|64 bits"):
        read_object(f'{{"a": {number}}}', "x")


@pytest.mark.parametrize("depth", [51, 480, 950, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_that_nothing_needs(depth: int, opening: str, closing: str) -> None:
    assert load_json(opening * 50 + "0" + closing * 50)
    with pytest.raises(ValueError, match="nested deeper than 50 levels"):
        load_json(opening * depth + "0" + closing * depth)

"""The table of families: complete, and true to diffusers' classes."""

import inspect

import diffusers
import pytest

from schedsearch.exceptions import ConfigError
from schedsearch.families.family import Family
from schedsearch.families.recognise import recognise
from schedsearch.families.table import FAMILIES

by_class = pytest.mark.parametrize(
    "family",
    [family for family in FAMILIES if family.package == "diffusers"],
    ids=lambda family: family.class_name,
)


@by_class
def test_the_time_is_where_the_table_says(family: Family) -> None:
    forward = getattr(diffusers, family.class_name).forward
    names = list(inspect.signature(forward).parameters)
    assert names.index(family.time_argument) == family.time_position + 1  # after self


@by_class
def test_a_family_is_known_by_class_and_package(family: Family) -> None:
    model = getattr(diffusers, family.class_name).__new__(getattr(diffusers, family.class_name))
    assert recognise(model) is family
    stranger = type(family.class_name, (), {"__module__": "diffusers_like.models"})()
    with pytest.raises(ConfigError, match="A schedule cannot be applied to a diffusers_like"):
        recognise(stranger)


def test_rows_with_a_package_come_before_those_of_any() -> None:
    packages = [family.package for family in FAMILIES]
    first = packages.index(None)
    assert all(package is None for package in packages[first:])


def test_a_row_has_lists_or_an_argument_for_the_exit() -> None:
    assert all(bool(family.lists) != bool(family.exit_argument) for family in FAMILIES)
    assert all(family.needs for family in FAMILIES if family.package is None)

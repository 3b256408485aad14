"""The section ``rivals``: names and kinds of its entries, their recipes and schedules."""

import pytest
import yaml
from rival_spaces import DEEDIFF, problems_of, read
from tiny_runs import tiny_space

from schedsearch.config import dump_settings, settings_from_text
from schedsearch.config.rival_entries import merged_recipe, schedule_at
from schedsearch.exceptions import ConfigError
from schedsearch.settings.rivals import UncertaintyRival


def test_a_section_survives_writing_and_reading() -> None:
    settings = read({"deediff": DEEDIFF, "flat": {"kind": "schedule", "schedules": [[4] * 10]}})
    assert isinstance(settings.rivals["deediff"], UncertaintyRival)
    assert settings_from_text(dump_settings(settings)) == settings


def test_no_section_is_no_rivals() -> None:
    assert read(None).rivals == {}
    assert settings_from_text(yaml.safe_dump(tiny_space())).rivals == {}


def test_null_removes_an_entry() -> None:
    """A shipped space has entries that another solver refuses: ``-o rivals.fitted=null``."""
    assert read({"mine": None}, solver={"name": "ddpm"}).rivals == {}


@pytest.mark.parametrize("name", ["full", "presets", "a b", "1st", "x" * 50])
def test_names_that_cannot_be_folders_or_are_taken(name: str) -> None:
    ((key, text),) = problems_of({name: {"kind": "steps", "num_steps": [3]}})
    assert key == f"rivals.{name}"
    assert "cannot name an entry" in text


def test_the_recipe_of_an_entry_holds_over_that_of_the_space() -> None:
    settings = read({"deediff": DEEDIFF}, recipe={"extra": {"alpha": 1}})
    merged = merged_recipe(settings.recipe, settings.rivals["deediff"])
    assert merged["num_steps"] == 7
    assert merged["batch_size"] == settings.recipe.batch_size
    assert merged["extra"] == {"alpha": 1, "beta": 0.5}


def test_points_of_schedules() -> None:
    assert schedule_at("flat-4", 10, 10, "dit").depths == (4,) * 10
    assert schedule_at("full", 10, 10, "dit").depths == (10,) * 10
    assert schedule_at("5 5 5 5 5 4 4 4 4 4", 10, 10, "dit").depths[-1] == 4
    assert schedule_at("flat-0", 6, 10, "uvit").depths == (0,) * 10
    with pytest.raises(ConfigError, match="unknown schedule 'no'"):
        schedule_at("no", 10, 10, "dit")

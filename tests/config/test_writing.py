"""Settings as text and back, and the keys that differ."""

from collections.abc import Callable
from pathlib import Path

import pytest
from wrong_files import SCHEDULE

from schedsearch.config import (
    InvalidFileError,
    differing_keys,
    dump_settings,
    read_settings,
    settings_from_text,
    shipped_spaces,
)
from schedsearch.settings import StudySettings

Edited = Callable[..., Path]


def test_round_trip(edited: Edited) -> None:
    (edited().parent / "mine.yaml").write_text(SCHEDULE)
    path = edited(
        ("D3-DiT", "[9, 9, 8, 8, 7, 7, 6, 6, 5, 5], mine.yaml"),
        ("lr: 1e-5", "lr: 1e-5, extra: {a: '010', b: [1, 2.5], c: {d: 'yes'}, e: '1e5', f: ''}"),
    )
    settings = read_settings(path)
    text = dump_settings(settings)
    assert settings_from_text(text) == settings
    assert dump_settings(settings_from_text(text)) == text
    keys = [line.partition(":")[0] for line in text.splitlines() if line[0].isalpha()]
    assert keys == list(StudySettings.__dataclass_fields__)
    assert str(path.parent / "mine.yaml") in settings.warm_start


def test_stored_text_is_read_without_its_files(good: Path) -> None:
    text = dump_settings(read_settings(good))
    (good.parent / "weights.pt").unlink()
    assert settings_from_text(text).name == "toy"
    with pytest.raises(InvalidFileError, match=r"weights\.pt does not exist"):
        read_settings(good)


@pytest.mark.parametrize("name", shipped_spaces())
def test_resolved_spaces_are_read_back(name: str) -> None:
    text = shipped_spaces()[name].read_text(encoding="utf-8")
    settings = settings_from_text(text)  # weights and data of most are the user's
    assert settings.name == name
    assert settings_from_text(dump_settings(settings)) == settings


def test_differing_keys(good: Path) -> None:
    a = read_settings(good)
    changes = ["search.n_trials=9", "resources.num_workers=3", "search.seed=1", "recipe.lr=2"]
    b = read_settings(good, [*changes, "backbone.config.mlp_ratio=2"])
    assert differing_keys(a, a) == []
    assert differing_keys(a, b) == ["backbone.config.mlp_ratio", "recipe.lr", "search.seed"]
    assert "search.n_trials" in differing_keys(a, b, ignoring=())

"""``-o KEY=VALUE``: checked like the file."""

from collections.abc import Callable
from pathlib import Path

import pytest
from wrong_files import mistakes

from schedsearch.config import read_settings

Edited = Callable[..., Path]


def test_overrides_are_validated_like_the_file(good: Path) -> None:
    settings = read_settings(
        good, ["search.n_trials=50", "recipe.lr=1e-4", "solver={name: dpm_solver}", "name=b"]
    )
    assert (settings.search.n_trials, settings.recipe.lr) == (50, 1e-4)
    assert (settings.solver.name, settings.name) == ("dpm_solver", "b")


def test_wrong_overrides_point_at_the_option(good: Path) -> None:
    found = mistakes(good, "search.n_trials=many", "space.min_dpeth=3", "serch.seed=1")
    assert found == [
        "-o search.n_trials=many: search.n_trials: must be an integer, got the text 'many'",
        "-o serch.seed=1: serch: unknown key; did you mean 'search'?",
        "-o space.min_dpeth=3: space.min_dpeth: unknown key; did you mean 'min_depth'?",
    ]
    for option in ("search.n_trials", "=3", "a..b=3", "a b=3"):
        assert "not of the form KEY=VALUE" in mistakes(good, option)[0]
    assert "-o name=[: name:" in mistakes(good, "name=[")[0]
    assert "aliases" in mistakes(good, "name=*x")[0]


def test_an_override_repairs_the_file(edited: Edited) -> None:
    path = edited(("lr: 1e-5", "lr: 1, lr: 2"), ("source: digits", "source: nope"))
    assert read_settings(path, ["recipe.lr=0.5", "data.source=digits"]).recipe.lr == 0.5
    path = edited(
        ("lr: 1, lr: 2", "lr: 1, betas: [.nan, 0.9]"), ("source: nope", "source: digits")
    )
    assert read_settings(path, ["recipe.betas=[0.8, 0.9]"]).recipe.betas == (0.8, 0.9)


def test_paths_in_options_start_at_the_current_folder(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "other.pt").write_bytes(b"")
    monkeypatch.chdir(here)
    settings = read_settings(good, ["backbone.checkpoint=other.pt"])
    assert settings.backbone.checkpoint == str(here / "other.pt")


def test_remedies_fit_where_a_path_came_from(good: Path, edited: Edited) -> None:
    for option in ("data={source: npz, path: x.npz}", "warm_start=[x.yaml]"):
        found = "".join(mistakes(good, option))
        assert "counts from the current folder" in found
        assert "counts from the folder of the file" not in found
    found = "".join(mistakes(edited(("source: digits", "source: npz, path: x.npz"))))
    assert "counts from the folder of the file" in found

"""Search space files: valid ones, all mistakes with their lines, and sections alone."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from wrong_files import mistakes

from schedsearch.config import (
    InvalidFileError,
    find_space,
    read_model_settings,
    read_settings,
    shipped_spaces,
)
from schedsearch.exceptions import ConfigError
from schedsearch.settings import RecipeSettings

Edited = Callable[..., Path]


def test_a_good_file(good: Path) -> None:
    settings = read_settings(good)
    assert settings.recipe.lr == 1e-5
    assert settings.recipe.betas == (0.9, 0.999)
    assert settings.warm_start == ("full", "D3-DiT")
    assert settings.space.num_intervals == 10
    assert settings.backbone.checkpoint == str(good.parent / "weights.pt")


MANY_MISTAKES = """\
name: ../../x
backbone:
  family: dit
  config: {input_size: 8, deth: 10, hidden_size: 64}
  checkpoint: nowhere.pt
data: {source: digit}
space:
  min_dpeth: 2
  max_depth: yes
warm_start: [full, 5]
recipe:
  num_steps: 010
  batch_size: 1.5
  lr: 1e-5
  lr: 3
  betas: [0.9]
  grad_clip: -1
  lambda_weighting: {kind: lin, until: 2}
solvr: {}
solver: {num_steps: 0, cfg_scale: .inf}
evaluation: {features: inception}
trainer: trainers.nowhere:AseTrainer
search: {n_trials: true}
resources: {gpus_per_trial: "1"}
"""


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(MANY_MISTAKES)
    expected = [
        "space.yaml:1:1: name: '../../x' cannot name a run",
        "space.yaml:4:27: backbone.config.deth: unknown key; did you mean 'depth'?",
        "space.yaml:5:3: backbone.checkpoint: the file nowhere.pt does not exist",
        "space.yaml:6:8: data.source: must be digits, mnist, cifar10, image_folder, npz or "
        "latents, got the text 'digit'; "
        "did you mean 'digits'?",
        "space.yaml:7:1: space.min_depth: required key is missing",
        "space.yaml:8:3: space.min_dpeth: unknown key; did you mean 'min_depth'?",
        "space.yaml:9:3: space.max_depth: must be an integer, got the text 'yes'",
        "space.yaml:10:20: warm_start[1]: must be full, a preset, a list of depths",
        "space.yaml:12:3: recipe.num_steps: must be an integer, got the text '010'; write the "
        "number without quotes and without leading zeros",
        "space.yaml:13:3: recipe.batch_size: must be an integer, got 1.5",
        "space.yaml:15:3: recipe.lr: duplicate key; it stands in line 14 already",
        "space.yaml:16:3: recipe.betas: the list is too short",
        "space.yaml:17:3: recipe.grad_clip: must be > 0.0, got -1",
        "space.yaml:18:22: recipe.lambda_weighting.kind: must be none or linear",
        "space.yaml:18:33: recipe.lambda_weighting.until: must be <= 1.0 or plateau, got 2",
        "space.yaml:19:1: solvr: unknown key; did you mean 'solver'?",
        "space.yaml:20:10: solver.num_steps: must be >= 1, got 0",
        "space.yaml:20:24: solver.cfg_scale: must be a finite number, got .inf",
        "space.yaml:21:14: evaluation.features: inception needs evaluation.features_path",
        "space.yaml:22:1: trainer: there is no module 'trainers.nowhere'",
        "space.yaml:23:10: search.n_trials: must be an integer, got true; true and false are not",
        "space.yaml:24:13: resources.gpus_per_trial: must be a number, got the text '1'",
    ]
    found = mistakes(file)
    assert [f[: len(e)] for f, e in zip(found, expected, strict=False)] == expected
    assert len(found) == len(expected)


def test_errors_survive_pickling(good: Path) -> None:
    with pytest.raises(InvalidFileError) as caught:
        read_settings(good, ["name=[]"])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.problems) == (str(caught.value), caught.value.problems)


def test_recipe_defaults_are_those_of_the_dataclass(good: Path) -> None:
    assert read_settings(good).recipe == RecipeSettings(num_steps=10, batch_size=8, lr=1e-5)


# ---- which file -------------------------------------------------------------------------------


def test_spaces_that_ship_are_found_by_name() -> None:
    assert find_space("digits_dit") == shipped_spaces()["digits_dit"]
    with pytest.raises(ConfigError, match=r"did you mean 'digits_dit'\? Spaces that ship: cif"):
        find_space("digits_dti")
    with pytest.raises(ConfigError, match=r"no search space file 'nope\.yaml'"):
        find_space("nope.yaml")


def test_a_file_that_does_not_exist_is_compared_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "my_space.yaml").touch()
    with pytest.raises(ConfigError, match=r"did you mean 'my_space\.yaml'"):
        find_space(tmp_path / "my_spaec.yaml")
    with pytest.raises(ConfigError, match=r"nope\.yaml'\. Spaces that ship"):
        find_space(tmp_path / "nope.yaml")
    with pytest.raises(ConfigError, match=r"did you mean 'digits_dit'"):
        find_space(tmp_path / "digits_dit.yaml")


def test_folders_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        read_settings(tmp_path)
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing\n")
    assert "the file is empty" in mistakes(empty)[0]


# ---- sections alone ---------------------------------------------------------------------------


def test_model_settings_ignore_the_other_sections(edited: Edited) -> None:
    path = edited(
        ("source: digits", "sauce: nope"), ("n_trials: 4", "n_trials: [, "), ("search: {", "x: {")
    )
    with pytest.raises(InvalidFileError):
        read_model_settings(path)  # broken syntax is broken for every reader
    path.write_text(path.read_text().replace("[, ", "0"))
    model = read_model_settings(path, ["solver.num_steps=3"])
    assert model.backbone.config["depth"] == 10
    assert model.solver.num_steps == 3
    assert model.backbone.checkpoint == str(path.parent / "weights.pt")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("search.n_trials=3", "not in a section that is read here; known are backbone, "),
        ("slover.num_steps=3", "did you mean 'solver'"),
        ("space.min_depth=3", "not in a section that is read here"),
        ("data.source=nope", "must be digits, mnist"),
    ],
)
def test_model_settings_refuse_overrides_without_effect(override: str, said: str) -> None:
    with pytest.raises(InvalidFileError, match=said):
        read_model_settings("digits_dit", [override])


def test_model_settings_from_a_dict() -> None:
    section = {"family": "dit", "config": {"depth": 4, "hidden_size": 64, "num_heads": 4}}
    assert read_model_settings(section).backbone.config["depth"] == 4
    assert read_model_settings({"backbone": section, "solver": {"num_steps": 2}}).solver == (
        type(read_model_settings(section).solver)(num_steps=2)
    )
    with pytest.raises(InvalidFileError, match=r"backbone settings: backbone\.famly: unknown key"):
        read_model_settings({"famly": "dit"})
    with pytest.raises(InvalidFileError, match="plain data"):
        read_model_settings({"family": "dit", "config": {"mlp_ratio": float("nan")}})

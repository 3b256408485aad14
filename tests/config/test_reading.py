"""Search space files: valid ones, and every mistake of the others with its line."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from schedsearch.config import (
    InvalidFileError,
    differing_keys,
    dump_settings,
    find_space,
    read_model_settings,
    read_settings,
    settings_from_text,
    shipped_spaces,
)
from schedsearch.exceptions import ConfigError, ExitCode
from schedsearch.settings import RecipeSettings, StudySettings

Edited = Callable[..., Path]


def mistakes(path: Path, *overrides: str) -> list[str]:
    """The messages of a file, its folder left out."""
    with pytest.raises(InvalidFileError) as caught:
        read_settings(path, overrides)
    assert caught.value.exit_code == ExitCode.CONFIG
    return [str(p).replace(f"{path.parent}/", "") for p in caught.value.problems]


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


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("checkpoint: weights.pt", "checkpoint: gone.pt", "backbone.checkpoint"),
        ("source: digits", "source: npz, path: gone.npz", "data.path"),
        ("source: digits", "source: mnist, path: gone", "data.path"),
        ("source: digits", "source: latents, path: gone, vae: .", "data.path"),
        ("D3-DiT", "gone.yaml", "warm_start[1]"),
        ("recipe: {", "recipe: {base: gone.yaml, ", "recipe.base"),
        ("search:", "evaluation: {features: inception, features_path: gone.pt}\nsearch:",
         "evaluation.features_path"),
    ],
)  # fmt: skip
def test_paths_that_lead_nowhere_have_one_remedy(
    edited: Callable[..., Path], old: str, new: str, key: str
) -> None:
    (found,) = (line for line in mistakes(edited((old, new))) if f": {key}: " in line)
    assert "gone" in found
    assert found.endswith("; a relative path counts from the folder of the file")


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


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("family: dit", "name: DiT-XL/2\n  family: dit", "needs exactly one of name and family"),
        ("family: dit", "name: DiT-XXL/2", "did you mean 'DiT-XL/2'?"),
        ("family: dit", "name: DiT-S/2", "DiT-S/2 fixes patch_size to 2; remove the key"),
        ("family: dit", "family: dti", "unknown family 'dti'; did you mean 'dit'?"),
        ("family: dit", "family: nowhere.at_all:Net", "there is no module 'nowhere'"),
        ("family: dit", "family: json.encodr:Net", "there is no module 'json.encodr'"),
        ("patch_size: 2", "patch_size: 3", "patch_size must divide input_size, got 3 and 8"),
        ("num_heads: 4", "num_heads: 5", "num_heads must divide hidden_size, got 5 and 64"),
        ("hidden_size: 64, depth: 10, num_heads: 4", "hidden_size: 66, depth: 10, num_heads: 1",
         "hidden_size must be divisible by 4, got 66"),
        ("depth: 10, num", "depth: true, num", "depth: must be an integer, got true"),
        ("checkpoint: weights.pt", "checkpoint: package:nope.safetensors", "no weights named"),
        ("checkpoint: weights.pt", "checkpoint: null", "but checkpoint is missing; name a file"),
        ("max_depth: 10", "max_depth: 11", "the backbone has 10 exit blocks, got 11"),
        ("max_depth: 10", "max_depth: 9", "is not in the space: interval 0 runs 10 blocks"),
        ("min_depth: 2", "min_depth: 11", "must be <= max_depth, got 11 and 10"),
        ("min_depth: 2", "min_depth: 2, num_intervals: 5",
         "is not in the space: has 10 intervals, the space 5; change the space, or remove"),
        ("D3-DiT", "D3-DIT", "unknown schedule 'D3-DIT'; did you mean 'D3-DiT'?"),
        ("D3-DiT", "[9, 8, 7]", "warm_start[1]: warm-start-1 (9 8 7) is not in"),
        ("D3-DiT", "[]", "warm_start[1]: must be full, a preset, a list of depths"),
        ("D3-DiT", "[9, 9, 9, 9, 9, 9, 9, 9, 9, 1]",
         "is not in the space: interval 9 runs 1 blocks, outside [2, 10]"),
        ("D3-DiT", "[9, 8, 9, 9, 9, 9, 9, 9, 9, 9]",
         "depth grows towards the noise, but the space is nonincreasing"),
        ("D3-DiT", "[9, 8.0, 9, 9, 9, 9, 9, 9, 9, 9]", "warm_start[1][1]: a depth is an integer"),
        ("D3-DiT", "mine.yaml", "mine.yaml does not exist"),
        ("[full, D3-DiT]", "full", "must be a list of schedules, got 'full'; write [full]"),
        ("n_trials: 4", "n_trials: 1", "must be at least the 2 different warm starts, got 1"),
        ("n_trials: 4", "n_trials: 4, storage: foo.db", "write sqlite:///foo.db"),
        ("n_trials: 4", "n_trails: 4", "did you mean 'n_trials'?"),
        ("source: digits", "source: npz", "source npz needs a path; add data.path"),
        ("source: digits", "source: image_folder, path: nowhere", "nowhere does not exist"),
        ("source: digits", "source: digits, path: x", "digits ships with scikit-learn"),
        ("in_channels: 1", "in_channels: 3", "so in_channels must be 1, got 3"),
        ("num_classes: 10", "num_classes: 7", "digits has 10 classes, got 7"),
        ("search:", "solver: {cfg_scale: 2}\nsearch:", None),
        ("num_classes: 10}", "num_classes: 10, class_dropout_prob: 0}",
         None),
        ("search:", "resources: {gpus_per_trial: 1.5}\nsearch:", "a whole number, got 1.5"),
        ("search:", "evaluation: {features: digit}\nsearch:", "did you mean 'digits'?"),
        ("search:", "evaluation: {num_samples: 1}\nsearch:", "must be >= 2, got 1"),
        (
            "schedsearch.schedules.space:SearchSpace",
            "schedsearch.schedules.space",
            "not of the form package.module",
        ),
        ("schedsearch.schedules.space:SearchSpace", "schedsearch.schedules.spase:SearchSpace",
         "there is no module 'schedsearch.schedules.spase'; install its package"),
        ("name: toy", "name: " + "x" * 101, "cannot name a run"),
        ("name: toy", "name: 3", "name: must be text, got 3; put it in quotes"),
        ("name: toy", "name: 'toy; rm -rf'", "cannot name a run"),
        ("data: {source: digits}\n", "", "data: required key is missing"),
        ("data: {source: digits}", "data: digits", "must be a section ('key: value' lines)"),
    ],
)  # fmt: skip
def test_rules(edited: Edited, old: str, new: str, message: str | None) -> None:
    path = edited((old, new))
    if message is None:
        read_settings(path)
        return
    found = mistakes(path)
    assert any(message in text for text in found), found
    assert all(text.startswith("space.yaml:") for text in found)


def test_guidance_needs_the_no_class_label(edited: Edited) -> None:
    path = edited(
        ("num_classes: 10}", "num_classes: 10, class_dropout_prob: 0}"),
        ("search:", "solver: {cfg_scale: 1.5}\nsearch:"),
    )
    assert "space.yaml:11:10: solver.cfg_scale: classifier-free guidance" in mistakes(path)[0]


def test_duplicate_warm_starts_are_allowed(edited: Edited) -> None:
    path = edited(("D3-DiT", "full, D3-DiT, D3-DiT"), ("n_trials: 4", "n_trials: 2"))
    assert len(read_settings(path).warm_start) == 4


def test_registry_name_with_the_arguments_it_leaves_open(edited: Edited) -> None:
    path = edited(
        ("family: dit", "name: DiT-B/4"),
        ("patch_size: 2, in_channels: 1, hidden_size: 64, depth: 10, num_heads: 4",
         "in_channels: 1"),
        ("max_depth: 10", "max_depth: 12"),
    )  # fmt: skip
    assert read_settings(path).backbone.name == "DiT-B/4"


def test_a_custom_class_is_found_but_not_imported(
    edited: Edited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "my_lab_unimported"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "nets.py").write_text("try:\n    from json import Net\nexcept ImportError: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = edited(("family: dit", "family: my_lab_unimported.nets:Net"))
    assert read_settings(path).backbone.family == "my_lab_unimported.nets:Net"


# ---- overrides --------------------------------------------------------------------------------


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


def test_paths_in_options_start_at_the_current_folder(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "other.pt").write_bytes(b"")
    monkeypatch.chdir(here)
    settings = read_settings(good, ["backbone.checkpoint=other.pt"])
    assert settings.backbone.checkpoint == str(here / "other.pt")


# ---- text and back ----------------------------------------------------------------------------


SCHEDULE = """\
schema: schedsearch.schedule/1
name: mine
backbone: {family: dit, num_exit_blocks: 10}
depths: [10, 10, 9, 9, 8, 8, 7, 7, 6, 6]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_exit_blocks: 10", "num_exit_blocks: 12",
         "space.yaml:8:20: warm_start[1]: mine.yaml: the schedule is for 12 exit blocks, but the "
         "backbone has 10; use a schedule found for this backbone, or a preset"),
        ("family: dit", "family: uvit", "for the family uvit, but the backbone is a dit; use"),
        ("6, 6]", "6, 99]", "mine.yaml:4:39: depths[9]: must be in"),
        ("6, 6]", "6, 1]", "warm_start[1]: mine (10 10 9 9 8 8 7 7 6 1) is not in the"),
    ],
)  # fmt: skip
def test_schedule_files_must_fit(edited: Edited, old: str, new: str, message: str) -> None:
    path = edited(("D3-DiT", "mine.yaml"))
    (path.parent / "mine.yaml").write_text(SCHEDULE)
    assert read_settings(path).warm_start == ("full", str(path.parent / "mine.yaml"))
    (path.parent / "mine.yaml").write_text(SCHEDULE.replace(old, new))
    (found,) = mistakes(path)
    assert message in found


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
        settings_from_text(text, check_disk=True)


def test_differing_keys(good: Path) -> None:
    a = read_settings(good)
    changes = ["search.n_trials=9", "resources.num_workers=3", "search.seed=1", "recipe.lr=2"]
    b = read_settings(good, [*changes, "backbone.config.mlp_ratio=2"])
    assert differing_keys(a, a) == []
    assert differing_keys(a, b) == ["backbone.config.mlp_ratio", "recipe.lr", "search.seed"]
    assert "search.n_trials" in differing_keys(a, b, ignoring=())


# ---- which file -------------------------------------------------------------------------------


def test_spaces_that_ship_are_found_by_name() -> None:
    assert find_space("digits_dit") == shipped_spaces()["digits_dit"]
    with pytest.raises(ConfigError, match="did you mean 'digits_dit'"):
        find_space("digits_dti")
    with pytest.raises(ConfigError, match=r"no search space file 'nope\.yaml'"):
        find_space("nope.yaml")


@pytest.mark.parametrize("name", shipped_spaces())
def test_resolved_spaces_are_read_back(name: str) -> None:
    text = shipped_spaces()[name].read_text(encoding="utf-8")
    settings = settings_from_text(text)  # weights and data of most are the user's
    assert settings.name == name
    assert settings_from_text(dump_settings(settings)) == settings


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


def test_errors_survive_pickling(good: Path) -> None:
    with pytest.raises(InvalidFileError) as caught:
        read_settings(good, ["name=[]"])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.problems) == (str(caught.value), caught.value.problems)


def test_recipe_defaults_are_those_of_the_dataclass(good: Path) -> None:
    assert read_settings(good).recipe == RecipeSettings(num_steps=10, batch_size=8, lr=1e-5)


@pytest.mark.parametrize("form", ["{file}", "{file}#sha256=" + "0" * 64, "{folder}"])
def test_features_path_may_be_a_file_with_its_digest_or_a_folder(tmp_path, form):
    file = tmp_path / "inception.pt"
    file.write_bytes(b"x")
    path = form.format(file=file, folder=tmp_path)
    options = ["evaluation.features=inception", f"evaluation.features_path={path}"]
    assert read_settings("digits_dit", options).evaluation.features_path == path

"""Rules of a search space file, each broken alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
from wrong_files import SCHEDULE, mistakes

from schedsearch.config import read_settings

Edited = Callable[..., Path]


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
    edited: Edited, old: str, new: str, key: str
) -> None:
    (found,) = (line for line in mistakes(edited((old, new))) if f": {key}: " in line)
    assert "gone" in found
    assert found.endswith("; a relative path counts from the folder of the file")


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
        ("checkpoint: weights.pt", "checkpoint: package:nope.safetensors", "No weights named"),
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
        ("n_trials: 4", "n_trials: 4, storage: 'postgresql:/bob:secret@host/x'",
         "must be an Optuna storage URL; write KIND://USER:PASSWORD@HOST/NAME"),
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
        ("search:", "resources: {accelerator: A100, backend: local}\nsearch:",
         "resources.accelerator: needs the backend ray, got local"),
        ("search:", "resources: {accelerator: 'A 100'}\nsearch:", "names no GPU"),
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


@pytest.mark.parametrize("form", ["{file}", "{file}#sha256=" + "0" * 64, "{folder}"])
def test_features_path_may_be_a_file_with_its_digest_or_a_folder(tmp_path, form):
    file = tmp_path / "inception.pt"
    file.write_bytes(b"x")
    path = form.format(file=file, folder=tmp_path)
    options = ["evaluation.features=inception", f"evaluation.features_path={path}"]
    assert read_settings("digits_dit", options).evaluation.features_path == path

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from schedsearch.config import InvalidFileError, dump_settings, read_settings, settings_from_text
from schedsearch.config.recipes import shipped_recipes
from schedsearch.settings import LambdaSettings

RECIPE = "recipe: {num_steps: 10, batch_size: 8, lr: 1e-5}"
BASE = """\
# a user's recipe
batch_size: 32
lr: 0.002
betas: [0.9, 0.95]
lambda_weighting: {kind: linear, max: 2.5, until: 0.25}
grad_clip: null
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A recipe in a folder beside the search space."""
    (tmp_path / "recipes").mkdir()
    file = tmp_path / "recipes" / "mine.yaml"
    file.write_text(BASE)
    return file


def recipe_lines(text: str) -> tuple[str, str]:
    return RECIPE, f"recipe: {text}"


def errors(file: Path, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(InvalidFileError) as caught:
        read_settings(file, overrides)
    return [str(problem) for problem in caught.value.problems]


def test_keys_beside_the_base_override_it(edited: Callable[..., Path], base: Path) -> None:
    text = "{base: recipes/mine.yaml, num_steps: 7, lr: 0.5, lambda_weighting: {max: 3.0}}"
    settings = read_settings(edited(recipe_lines(text)))
    recipe = settings.recipe
    assert (recipe.num_steps, recipe.batch_size, recipe.lr) == (7, 32, 0.5)
    assert recipe.betas == (0.9, 0.95)
    assert recipe.grad_clip is None
    # A section in both is merged key by key.
    assert recipe.lambda_weighting == LambdaSettings(kind="linear", max=3.0, until=0.25)
    assert recipe.weight_decay == 0.0  # named by neither


def test_the_resolved_file_holds_the_numbers_and_no_base(
    edited: Callable[..., Path], base: Path
) -> None:
    settings = read_settings(edited(recipe_lines("{base: recipes/mine.yaml, num_steps: 7}")))
    text = dump_settings(settings)
    assert "base" not in text
    assert "lr: 0.002" in text
    base.unlink()
    assert settings_from_text(text) == settings


def test_options_win(edited: Callable[..., Path], base: Path, tmp_path: Path) -> None:
    file = edited(recipe_lines("{base: recipes/mine.yaml, num_steps: 7}"))
    options = ("recipe.lr=0.25", "recipe.lambda_weighting.max=9")
    recipe = read_settings(file, options).recipe
    assert (recipe.lr, recipe.batch_size) == (0.25, 32)
    assert (recipe.lambda_weighting.max, recipe.lambda_weighting.until) == (9.0, 0.25)
    assert read_settings(file, ("recipe.base=ase_uvit",)).recipe.lr_schedule == "cosine"
    other = tmp_path / "other.yaml"
    other.write_text("{batch_size: 5, lr: 1.0}")
    assert read_settings(file, (f"recipe.base={other}",)).recipe.batch_size == 5
    assert errors(file, ("recipe.base=null",)) == [
        f"{file}:10:1: recipe.batch_size: required key is missing",
        f"{file}:10:1: recipe.lr: required key is missing",
    ]


def test_shipped_recipes_are_read_by_name(edited: Callable[..., Path]) -> None:
    assert {"ase_dit", "ase_uvit"} <= set(shipped_recipes())
    recipe = read_settings(edited(recipe_lines("{base: ase_dit, ema_decay: auto}"))).recipe
    assert (recipe.batch_size, recipe.lr, recipe.loss) == (64, 1e-5, "hybrid")
    assert recipe.ema_decay == "auto"


@pytest.mark.parametrize(
    ("base_key", "reason"),
    [
        ("ase_dti", "unknown recipe 'ase_dti'; did you mean 'ase_dit'?"),
        ("xxxxxx", "unknown recipe 'xxxxxx'; known are ase_dit, ase_uvit"),
        ("nowhere.yaml", "nowhere.yaml does not exist"),
        ("recipes/", "recipes is a folder, not a file"),
        ("3", "must be the name of a recipe or a file, got 3"),
    ],
)
def test_a_base_that_is_not_there(
    base_key: str, reason: str, edited: Callable[..., Path], base: Path
) -> None:
    file = edited(recipe_lines(f"{{base: {base_key}, num_steps: 7}}"))
    [error] = errors(file)  # and no "missing key" that only follows from it
    assert error.startswith(f"{file}:10:10: recipe.base: ")
    assert reason in error


def test_mistakes_inside_a_base_name_its_file_and_line(
    edited: Callable[..., Path], base: Path
) -> None:
    base.write_text(
        "batch_size: 0\nlabel_drop: 0.1\nbetas: [0.9, 2]\nlambda_weighting: {max: 0.5}\n"
        "base: ase_dit\n"
    )
    file = edited(recipe_lines("{base: recipes/mine.yaml, num_steps: x}"))
    assert errors(file) == [
        f"{base}:1:1: recipe.batch_size: must be >= 1, got 0",
        f"{base}:2:1: recipe.label_drop: unknown key; did you mean 'label_dropout'?",
        f"{base}:3:14: recipe.betas[1]: must be < 1.0, got 2",
        f"{base}:4:20: recipe.lambda_weighting.max: must be >= 1.0, got 0.5",
        f"{base}:5:1: recipe.base: a recipe file cannot have a base itself; copy its keys",
        f"{file}:10:35: recipe.num_steps: must be an integer, got the text 'x'",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1", ":1:"),
        ("lr: 1\nlr: 2\n", ":2:1: recipe.lr: duplicate key"),
        ("- 1\n", "must hold 'key: value' lines"),
        ("", "must hold 'key: value' lines"),
    ],
)
def test_a_base_that_is_no_recipe(
    text: str, reason: str, edited: Callable[..., Path], base: Path
) -> None:
    base.write_text(text)
    [error] = errors(edited(recipe_lines("{base: recipes/mine.yaml, num_steps: 7}")))
    assert error.startswith(str(base))
    assert reason in error


def test_a_base_is_found_without_importing_torch_or_the_trainers(
    edited: Callable[..., Path],
) -> None:
    file = edited(recipe_lines("{base: ase_dit}"))
    program = (
        "import sys; from schedsearch.config import read_settings; "
        "print(read_settings(sys.argv[1]).recipe.num_steps, "
        "{'torch', 'trainers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "400000 set()\n"

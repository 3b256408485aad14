from pathlib import Path
from typing import Any

import pytest

from schedsearch.config import InvalidFileError, read_sections, read_settings
from schedsearch.config.rules import training
from schedsearch.settings import BackboneSettings, DiffusionSettings, RecipeSettings

DIT: dict[str, Any] = {"family": "dit", "config": {"num_classes": 10}}
UVIT: dict[str, Any] = {"family": "uvit", "config": {"num_classes": 10}}


def problems(
    backbone: dict[str, Any] | None = None,
    betas: str = "linear",
    trainer: str = "trainers.ase:AseTrainer",
    **recipe: Any,
) -> list[str]:
    numbers = {"num_steps": 5, "batch_size": 8, "lr": 1.0, "label_dropout": 0.0, **recipe}
    found = training(
        RecipeSettings(**numbers),
        BackboneSettings(**(backbone or DIT)),
        DiffusionSettings(betas=betas),  # type: ignore[arg-type]
        trainer,
    )
    return [f"{key}: {reason}; {remedy}" for key, reason, remedy in found]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"accumulate": 9}, "recipe.accumulate: cuts a batch of 8 into 9 parts; make it at most"),
        (
            {"weights": "shared", "num_steps": 0},
            "recipe.weights: shared weights are tuned for recipe.num_steps, but that is 0; set",
        ),
        (
            {"weights": "shared", "start": "adapters"},
            "recipe.start: adapters are trained for one schedule, but recipe.weights is shared; ",
        ),
        ({"start": "adaptors"}, "recipe.start: must be plain or adapters"),
    ],
)
def test_numbers_of_the_recipe_fit_each_other(keys: dict[str, Any], message: str) -> None:
    numbers = {"num_steps": 5, "batch_size": 8, "lr": 1.0, "accumulate": 8}
    read_sections({"recipe": numbers})
    with pytest.raises(InvalidFileError) as caught:
        read_sections({"recipe": numbers | keys})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"backbone": UVIT, "loss": "hybrid"},
            "recipe.loss: hybrid trains a learned variance, but the backbone has none; set it to",
        ),
        ({"betas": "vp", "loss": "hybrid"}, "recipe.loss: hybrid trains the learned variance of"),
        ({"betas": "vp"}, "recipe.loss: auto trains the learned variance of a discrete process"),
        (
            {"backbone": UVIT, "label_dropout": 0.1},
            "recipe.label_dropout: the backbone has no label for 'no class', got 0.1; set it to 0",
        ),
        (
            {"backbone": UVIT, "freeze_time_embedder": True},
            "recipe.freeze_time_embedder: there is nothing to freeze",
        ),
    ],
)
def test_what_does_not_fit(settings: dict[str, Any], message: str) -> None:
    [problem] = problems(**settings)
    assert problem.startswith(message)


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "hybrid", "label_dropout": 0.1, "freeze_time_embedder": True},
        {"betas": "vp", "loss": "mse"},
        {"backbone": UVIT, "betas": "vp"},
        {"backbone": {"family": "uvit", "config": {}}, "label_dropout": 0.1},
        {"backbone": {"family": "uvit", "config": {"num_classes": 11, "null_class": True}}},
        {"backbone": {"family": "my_lab.nets:Net"}, "label_dropout": 0.1, "loss": "hybrid"},
        {"backbone": UVIT, "label_dropout": 0.1, "num_steps": 0},  # nothing is trained
        {"backbone": UVIT, "label_dropout": 0.1, "trainer": "my_lab.dit:Finetune"},
    ],
)
def test_what_fits(settings: dict[str, Any]) -> None:
    assert problems(**settings) == []


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (
            [],
            [
                "recipe.start: adapters are judged by FID and by the auditor, but "
                "evaluation.auditor is null; name an auditor, or set start to plain"
            ],
        ),
        (["evaluation.auditor=digits_mlp"], []),
        (
            ["evaluation.auditor=digits_mlp", "space.min_depth=10", "warm_start=[full]"],
            ["recipe.start: no schedule of the space exits early: space.min_depth is 10; set "],
        ),
    ],
)
def test_adapters_need_a_second_judge_and_exits(
    good: Path, options: list[str], messages: list[str]
) -> None:
    given = ["recipe.start=adapters", *options]
    if not messages:
        assert read_settings(good, given).recipe.start == "adapters"
        return
    with pytest.raises(InvalidFileError) as caught:
        read_settings(good, given)
    assert all(message in str(caught.value) for message in messages)
    read_settings(good, [*options, "recipe.start=plain"])

"""Which rows of ScheduleBench compare: the study and its starting weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.schedulebench.identity import identity_of, study_digest
from schedsearch.backbones.weights.checkpoint import load_backbone_from
from schedsearch.config import read_settings


def test_a_study_is_what_decides_weights_and_images(tmp_path: Path) -> None:
    one = read_settings("digits_dit")
    recipe = replace(one.recipe, lr=5e-5)
    solver = replace(one.solver, num_steps=19)
    backbone = replace(one.backbone, config={**one.backbone.config, "num_heads": 2})
    digests = {
        study_digest(settings)
        for settings in (
            one,
            replace(one, recipe=recipe),
            replace(one, solver=solver),
            replace(one, backbone=backbone),
            replace(one, trainer="my_lab.dit:Finetune"),
        )
    }
    assert len(digests) == 5
    more_trials = replace(one, search=replace(one.search, n_trials=99), name="other")
    elsewhere = replace(one, backbone=replace(one.backbone, checkpoint=tmp_path / "same"))
    assert study_digest(more_trials) == study_digest(elsewhere) == study_digest(one)


def test_other_starting_weights_are_another_identity() -> None:
    settings = read_settings("digits_dit")
    untrained = replace(settings.backbone, checkpoint=None)
    found, other = (
        identity_of(settings, load_backbone_from(backbone))  # type: ignore[arg-type]
        for backbone in (settings.backbone, untrained)
    )
    assert found["study_digest"] == other["study_digest"] == study_digest(settings)
    assert found["pretrained"].startswith("sha256:")
    assert found["pretrained"] != other["pretrained"]


def test_how_shared_weights_were_tuned_belongs_to_the_study() -> None:
    shared = ["recipe.weights=shared"]
    digests = {
        study_digest(read_settings("digits_dit", overrides))
        for overrides in (
            [],
            shared,
            [*shared, "recipe.num_steps=200"],
            [*shared, "space.min_depth=3"],
        )
    }
    assert len(digests) == 4
    narrower = read_settings("digits_dit", ["space.min_depth=3"])  # own weights do not see it
    assert study_digest(narrower) == study_digest(read_settings("digits_dit"))

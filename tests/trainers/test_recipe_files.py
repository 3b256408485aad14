import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any

import pytest
import torch
from torch import nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.uvit import UViT
from schedsearch.config import read_sections
from schedsearch.config.recipes import shipped_recipes
from schedsearch.data.digits import load_digits
from schedsearch.diffusion.process import DDPMProcess, NoiseProcess, VPProcess
from schedsearch.files.problems import Findings
from schedsearch.files.strict_yaml import parse_document
from schedsearch.schedules.exit_rules import RandomScheduleExits
from schedsearch.schedules.space import SearchSpace
from schedsearch.settings import RecipeSettings
from trainers.ase import AseTrainer

NAMES = sorted(shipped_recipes())

SOURCE = re.compile(r"# .*(ASE, (Sec\.|Table)|reference code|U-ViT's code|DiT, Sec\.|\bour)")
"""Where a number comes from, at the end of its line."""

PAPER: dict[str, dict[str, Any]] = {  # design/paper_facts.md, section 3, typed off by hand
    "ase_dit": {
        "num_steps": 400_000,
        "batch_size": 64,
        "lr": 1e-5,
        "lr_schedule": "constant",
        "weight_decay": 0.0,
        "ema_decay": 0.9999,
        "freeze_time_embedder": True,
        "loss": "hybrid",
    },
    "ase_uvit": {
        "num_steps": 40_000,
        "batch_size": 128,
        "lr_schedule": "cosine",
        "weight_decay": 0.03,
        "betas": (0.99, 0.99),
        "ema_decay": 0.9999,
        "loss": "mse",
    },
}


class Losses:
    """Progress that keeps the losses and saves nothing."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def report(self, step: int, loss: float, **values: float) -> None:
        self.losses.append(loss)

    def note(self, message: str) -> None: ...

    def save(self, step: int, state: Callable[[], Mapping[str, Any]]) -> None: ...

    def restore(self) -> None:
        return None


def read(name: str) -> RecipeSettings:
    findings = Findings(name)
    document = parse_document(shipped_recipes()[name].read_bytes(), findings)
    findings.raise_if_any()
    recipe = read_sections({"recipe": document.data})["recipe"]
    assert isinstance(recipe, RecipeSettings)
    return recipe


def test_both_ship() -> None:
    assert sorted(PAPER) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_numbers(name: str) -> None:
    recipe = asdict(read(name))
    assert {key: recipe[key] for key in PAPER[name]} == PAPER[name]
    # lambda(t): larger near the noise, until progress plateaus (ASE, Sec. 3.3)
    assert recipe["lambda_weighting"]["max"] > 1
    assert recipe["lambda_weighting"]["until"] == "plateau"


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_there_and_says_its_source(name: str) -> None:
    lines = shipped_recipes()[name].read_text().splitlines()
    numbers = [line for line in lines if line and not line.startswith("#")]
    keys = {line.partition(":")[0] for line in numbers if not line.startswith(" ")}
    # ``extra`` belongs to trainers of other people, ``weights`` and ``start`` to the run.
    assert keys == {field.name for field in fields(RecipeSettings)} - {"extra", "weights", "start"}
    assert [line for line in numbers if not SOURCE.search(line)] == []


def small_dit() -> nn.Module:
    return DiT(8, 4, 1, 16, 2, 2, num_classes=10, learn_sigma=True)


def small_uvit() -> nn.Module:
    return UViT(8, 4, 1, 16, 4, 2)


@pytest.mark.parametrize(
    ("name", "make", "process"),
    [("ase_dit", small_dit, DDPMProcess()), ("ase_uvit", small_uvit, VPProcess())],
)
def test_the_networks_of_the_paper_train_by_it(
    name: str, make: Callable[[], nn.Module], process: NoiseProcess
) -> None:
    torch.manual_seed(0)
    net = make()
    before = copy.deepcopy(net.state_dict())  # the network may be trained in place
    progress, recipe = Losses(), replace(read(name), num_steps=2, batch_size=8)
    trained: Any = AseTrainer().finetune(
        net,  # type: ignore[arg-type]
        RandomScheduleExits(SearchSpace(1, 2)),
        load_digits(),
        process,
        recipe,
        progress,
        0,
    )
    assert len(progress.losses) == 2
    assert type(trained) is type(net)
    after = trained.state_dict()
    assert after.keys() == before.keys()
    assert not all(after[key].equal(before[key]) for key in before)

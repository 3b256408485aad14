"""Tiny networks, the digits and short fine-tunes of them."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.uvit import UViT
from schedsearch.data.digits import load_digits
from schedsearch.diffusion.process import DDPMProcess
from schedsearch.protocols import ExitRule, NoiseProcess
from schedsearch.schedules.exit_rules import ScheduleExits
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings import LambdaSettings, RecipeSettings
from trainers.ase import AseTrainer

SCHEDULE = ExitSchedule((3, 3, 3, 2, 2, 2, 2, 1, 1, 1))
EXITS = ScheduleExits(SCHEDULE)
PROCESS = DDPMProcess()


class ListProgress:
    """Keeps reports and notes; saves every step and resumes from a given state."""

    def __init__(self, start: dict[str, Any] | None = None) -> None:
        self.losses: list[float] = []
        self.values: list[dict[str, float]] = []
        self.notes: list[str] = []
        self.states: dict[int, dict[str, Any]] = {}
        self._start = start

    def report(self, step: int, loss: float, **values: float) -> None:
        self.losses.append(loss)
        self.values.append(values)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def save(self, step: int, state: Callable[[], Mapping[str, Any]]) -> None:
        self.states[step] = dict(state())

    def restore(self) -> dict[str, Any] | None:
        return copy.deepcopy(self._start)


class SpyData:
    """Digits that remember what was drawn."""

    def __init__(self, labelled: bool = True) -> None:
        self._digits = load_digits()
        self._labelled = labelled
        self.drawn: list[Tensor] = []

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        images, labels = self._digits.batch(size, generator)
        self.drawn.append(images)
        return images, labels if self._labelled else None


def make_net(seed: int = 0, **overrides: Any) -> DiT:
    config = {"num_classes": 10, "learn_sigma": False, **overrides}
    torch.manual_seed(seed)
    net = DiT(8, 4, 1, 16, 3, 2, **config)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net


def make_uvit(**overrides: Any) -> UViT:
    config = {"num_classes": 10, **overrides}
    torch.manual_seed(0)
    return UViT(8, 4, 1, 16, 6, 2, **config)


NO_LAMBDA = LambdaSettings(kind="none")


def make_recipe(**overrides: Any) -> RecipeSettings:
    numbers = {"num_steps": 6, "batch_size": 16, "lr": 1e-2, **overrides}
    return RecipeSettings(**numbers)


def finetune(
    net: nn.Module,
    recipe: RecipeSettings,
    progress: ListProgress | None = None,
    exits: ExitRule = EXITS,
    seed: int = 0,
    data: SpyData | None = None,
    process: NoiseProcess = PROCESS,
) -> nn.Module:
    trained = AseTrainer().finetune(
        net,  # type: ignore[arg-type]
        exits,
        data or SpyData(),
        process,
        recipe,
        progress or ListProgress(),
        seed,
    )
    assert isinstance(trained, type(net))
    return trained


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}

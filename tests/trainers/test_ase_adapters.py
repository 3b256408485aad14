"""Fine-tunes of networks with exit adapters, which are trained along."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_finetunes import (
    EXITS,
    PROCESS,
    ListProgress,
    SpyData,
    changed,
    finetune,
    make_net,
    make_recipe,
    make_uvit,
)

from schedsearch.methods.exits.with_adapters import WithAdapters
from schedsearch.schedules.exit_rules import ScheduleExits
from schedsearch.schedules.exit_schedule import ExitSchedule
from trainers.layerwise import LayerwiseTrainer

makers = pytest.mark.parametrize(
    "make",
    [make_net, lambda: make_uvit(num_classes=11, null_class=True)],
    ids=["dit", "uvit"],
)


def adapted(make: Callable[[], Any], exits: tuple[int, ...] = (1, 2)) -> WithAdapters:
    return WithAdapters.of(make(), exits)


@makers
def test_maps_and_network_are_trained_and_averaged(make: Callable[[], Any]) -> None:
    start = adapted(make).state_dict()
    trained = finetune(adapted(make), make_recipe(), exits=EXITS)
    assert isinstance(trained, WithAdapters)
    assert not trained.training
    names = changed(start, trained.state_dict())
    assert {"adapters.1", "adapters.2"} <= names
    assert any("blocks.0." in name for name in names)
    # A map that no sample exits through stays as it was fitted.
    flat = ScheduleExits(ExitSchedule.flat(2))
    trained = finetune(adapted(make), make_recipe(), exits=flat)
    moved = {n for n in changed(start, trained.state_dict()) if n.startswith("adapters")}
    assert moved == {"adapters.2"}


@makers
def test_it_goes_on_bit_for_bit(make: Callable[[], Any]) -> None:
    progress = ListProgress()
    whole = finetune(adapted(make), make_recipe(), progress, exits=EXITS).state_dict()
    again = ListProgress(progress.states[3])
    resumed = finetune(adapted(make), make_recipe(), again, exits=EXITS).state_dict()
    assert not changed(whole, resumed)


@makers
@pytest.mark.parametrize(
    "options",
    [{"gradient_checkpointing": True}, {"precision": "bf16"}, {"accumulate": 2}],
    ids=str,
)
def test_options_that_save_memory(make: Callable[[], Any], options: dict[str, Any]) -> None:
    usual = finetune(adapted(make), make_recipe(lr=1e-4), exits=EXITS).state_dict()
    other = finetune(adapted(make), make_recipe(lr=1e-4, **options), exits=EXITS).state_dict()
    for name, value in usual.items():
        torch.testing.assert_close(other[name], value, atol=2e-3, rtol=0)


def test_all_exits_at_once_train_all_maps() -> None:
    start = adapted(make_net).state_dict()
    net: Any = adapted(make_net)
    recipe = make_recipe(extra={"weights": "mean"})
    progress: Any = ListProgress()
    trained: Any = LayerwiseTrainer().finetune(net, EXITS, SpyData(), PROCESS, recipe, progress, 0)
    assert isinstance(trained, WithAdapters)
    assert {"adapters.1", "adapters.2"} <= changed(start, trained.state_dict())

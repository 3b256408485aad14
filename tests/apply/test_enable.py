"""A schedule on every family: equal to a list cut by hand, and undone without a trace."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from model_cases import CASES, CLOCKS, DIFFUSERS, OFFICIAL, SCHEDULE, Case, named, state_of
from torch import nn
from torch.optim.swa_utils import AveragedModel

import schedsearch
from benchmarks.tiny_pipelines import PIPELINES
from schedsearch.apply.view import ScheduledBlocks
from schedsearch.exceptions import ScheduleError

by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
with_lists = pytest.mark.parametrize("case", [*DIFFUSERS, *OFFICIAL], ids=lambda case: case.name)


@by_name
def test_every_call_runs_the_blocks_of_its_time(case: Case) -> None:
    model = case.make()
    case.enable(model)
    for clock in CLOCKS:
        assert torch.equal(case.at(model, clock), case.expected(clock)), clock
    depths = [SCHEDULE.depth_at(clock) for clock in CLOCKS]
    assert schedsearch.summary(model).calls == {d: depths.count(d) for d in depths}


@by_name
def test_disable_leaves_no_trace(case: Case) -> None:
    model = case.make()
    untouched, keys = state_of(model), list(model.state_dict())
    full = case.at(model, 999.0) if case not in CASES[-2:] else None
    case.enable(model)
    assert state_of(model) != untouched
    assert list(model.state_dict()) == keys
    case.at(model, 999.0)
    schedsearch.disable(model)
    assert state_of(model) == untouched
    assert list(model.state_dict()) == keys
    if full is not None:
        assert torch.equal(case.at(model, 999.0), full)
        assert not torch.equal(full, case.expected(999.0))


@with_lists
def test_a_list_is_whole_outside_of_a_call(case: Case) -> None:
    model = case.make()
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    before = [(len(blocks), list(blocks), blocks[0]) for blocks in lists]
    case.enable(model)
    case.at(model, 999.0)
    assert [(len(blocks), list(blocks), blocks[0]) for blocks in lists] == before
    assert any(isinstance(blocks, ScheduledBlocks) for blocks in lists)


@with_lists
def test_a_slice_of_a_list_is_whole(case: Case) -> None:
    model = case.make()
    case.enable(model)
    blocks = next(m for m in model.modules() if isinstance(m, ScheduledBlocks))
    assert len(list(blocks[:2])) == 2  # without the attributes of the view


@by_name
def test_a_deep_copy_shares_neither_weights_nor_counters(case: Case) -> None:
    model = case.make()
    case.enable(model)
    clone = copy.deepcopy(model)
    expected = case.expected(450.0)
    assert torch.equal(case.at(clone, 450.0), expected)
    assert schedsearch.summary(model).num_calls == 0
    assert schedsearch.summary(clone).num_calls == 1
    with torch.no_grad():
        for parameter in clone.parameters():
            parameter.zero_()
    assert torch.count_nonzero(case.at(clone, 450.0)) == 0
    schedsearch.disable(clone)
    assert torch.equal(case.at(model, 450.0), expected)
    schedsearch.disable(model)


@by_name
def test_a_pickle_keeps_the_schedule(case: Case) -> None:
    model = case.make()
    case.enable(model)
    loaded = pickle.loads(pickle.dumps(model))
    assert torch.equal(case.at(loaded, 450.0), case.expected(450.0))
    assert schedsearch.summary(model).num_calls == 0
    schedsearch.disable(loaded)
    assert type(next(m for m in loaded.modules() if isinstance(m, nn.ModuleList))) is nn.ModuleList


def test_an_averaged_model_follows_the_schedule() -> None:
    case = named("PixArt-alpha")
    model = case.make()
    case.enable(model)
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    assert torch.equal(case.at(averaged.module, 450.0), case.expected(450.0))
    schedsearch.disable(averaged.module)
    assert schedsearch.summary(model).num_calls == 0


@pytest.mark.parametrize("case", DIFFUSERS, ids=lambda case: case.name)
def test_a_saved_model_is_the_plain_one(case: Case, tmp_path: Path) -> None:
    model = case.make()
    full = case.at(model, 999.0)
    case.enable(model)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert loaded.config._class_name == type(model).__name__
    assert torch.equal(case.at(loaded, 999.0), full)


class CustomList(nn.ModuleList):
    """A subclass that counts its iterations."""

    iterations = 0

    def __iter__(self) -> Any:
        self.iterations += 1
        return super().__iter__()


def test_a_list_of_another_class_keeps_it() -> None:
    case = named("DiT")
    model = case.make()
    model.transformer_blocks = CustomList(model.transformer_blocks)
    case.enable(model)
    clone = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert torch.equal(case.at(clone, 999.0), case.expected(999.0))
    list(clone.transformer_blocks)
    assert clone.transformer_blocks.iterations == 1
    schedsearch.disable(clone)
    assert type(clone.transformer_blocks) is CustomList


def test_the_context_manager_ends_with_an_error_too() -> None:
    case = named("DiT")
    model = case.make()
    untouched = state_of(model)
    with schedsearch.enabled(model, SCHEDULE):
        assert torch.equal(case.at(model, 999.0), case.expected(999.0))
    assert state_of(model) == untouched
    with pytest.raises(ScheduleError), schedsearch.enabled(model, SCHEDULE):
        model()
    assert state_of(model) == untouched
    with schedsearch.enabled(model, SCHEDULE):
        schedsearch.disable(model)  # early, by hand
    assert state_of(model) == untouched


def test_pipelines_that_share_a_model_share_its_schedule() -> None:
    pipeline = PIPELINES["DiT"]
    first = pipeline.build("DDIM")
    second = pipeline.build("Euler", first.transformer)
    schedsearch.enable(first, SCHEDULE)
    pipeline.sample(second, 4)
    assert schedsearch.summary(first).num_calls == 4
    with pytest.raises(ScheduleError, match="enabled on this DiTTransformer2DModel already"):
        schedsearch.enable(second, "full")
    schedsearch.disable(second)
    with pytest.raises(ScheduleError, match="No schedule is enabled"):
        schedsearch.disable(first)
    with pytest.raises(ScheduleError, match="No schedule is enabled"):
        schedsearch.summary(first)


def test_a_preset_is_scaled_and_full_changes_nothing() -> None:
    case = named("PixArt-alpha")
    model = case.make()
    full = case.at(model, 999.0)
    with schedsearch.enabled(model, "full"):
        assert torch.equal(case.at(model, 999.0), full)
    with schedsearch.enabled(model, "D3-DiT"):
        assert schedsearch.summary(model).schedule.depths == (6, 6, 5, 5, 4, 4, 3, 3, 3, 3)

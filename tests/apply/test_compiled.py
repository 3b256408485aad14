"""``torch.compile`` of blocks or of the whole model: graphs, breaks and equality."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from model_cases import SCHEDULE, Case, named
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters

import schedsearch

CLOCKS = (450.0, 999.0, 450.0)
"""Two depths, one of them twice."""


@pytest.fixture
def backend() -> Iterator[CompileCounter]:
    torch._dynamo.reset()
    counters.clear()
    yield CompileCounter()
    torch._dynamo.reset()


def compile_blocks(model: nn.Module, backend: Any) -> nn.Module:
    model.compile_repeated_blocks(backend=backend, fullgraph=True)
    return model


def compile_in_place(model: nn.Module, backend: Any) -> nn.Module:
    model.compile(backend=backend, fullgraph=True)
    return model


def compile_around(model: nn.Module, backend: Any) -> nn.Module:
    return torch.compile(model, backend=backend, fullgraph=True)


def check(case: Case, compiled: nn.Module) -> None:
    for clock in CLOCKS:
        assert torch.equal(case.at(compiled, clock), case.expected(clock)), clock
    assert not counters["graph_break"]
    assert schedsearch.summary(compiled).calls == {4: 2, 1: 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "how", "compile_first"),
    [
        ("DiT", compile_in_place, True),
        ("PixArt-alpha", compile_around, True),
        ("SD3", compile_around, False),
        ("FLUX", compile_around, True),
        ("Sana", compile_in_place, False),
    ],
)
def test_a_whole_model_has_one_graph_per_depth(
    name: str,
    how: Callable[[nn.Module, Any], nn.Module],
    compile_first: bool,
    backend: CompileCounter,
) -> None:
    check_whole(named(name), how, compile_first, backend)


def check_whole(case: Case, how: Any, compile_first: bool, backend: CompileCounter) -> None:
    model = case.make()
    if compile_first:
        model = how(model, backend)
        case.enable(model)
    else:
        case.enable(model)
        model = how(model, backend)
    check(case, model)
    assert backend.frame_count == 2
    assert "one graph per depth (6)" in str(schedsearch.summary(model))
    schedsearch.disable(model)


def test_a_compiled_model_has_one_graph_per_depth(backend: CompileCounter) -> None:
    check_whole(named("DiT"), compile_in_place, False, backend)


KINDS = {"DiT": 1, "PixArt-alpha": 1, "SD3": 2, "FLUX": 2, "Sana": 1}
"""Different blocks up to the deepest exit: two of SD3 have dual attention."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "compile_first"),
    [("DiT", True), ("PixArt-alpha", False), ("SD3", True), ("FLUX", False), ("Sana", True)],
)
def test_compiled_blocks_serve_every_depth(
    name: str, compile_first: bool, backend: CompileCounter
) -> None:
    case = named(name)
    model = case.make()
    model._repeated_blocks = sorted({type(block).__name__ for block in blocks_of(model)})
    if compile_first:
        compile_blocks(model, backend)
        case.enable(model)
    else:
        case.enable(model)
        compile_blocks(model, backend)
    check(case, model)
    # NOTE: One more graph where the first block's tokens have other strides.
    assert KINDS[case.name] <= backend.frame_count <= KINDS[case.name] + 1


def blocks_of(model: nn.Module) -> list[nn.Module]:
    names = ("transformer_blocks", "single_transformer_blocks")
    return [block for name in names for block in getattr(model, name, ())]


def test_a_summary_warns_of_too_many_graphs() -> None:
    model = named("DiT").make()
    model.transformer_blocks.extend(named("DiT").make().transformer_blocks)
    schedsearch.enable(model, schedsearch.ExitSchedule(tuple(range(10, 0, -1))))
    assert "torch.compile keeps" not in str(schedsearch.summary(model))
    model.compile(backend="eager")
    assert "torch.compile keeps 8 graphs, so some depths" in str(schedsearch.summary(model))
    schedsearch.disable(model)
    schedsearch.enable(model, SCHEDULE)
    assert "torch.compile keeps" not in str(schedsearch.summary(model))

"""LoRA and gradient checkpointing on a model that follows a schedule."""

from typing import Any

import pytest
import torch
from model_cases import DIFFUSERS, SCHEDULE, Case
from peft import LoraConfig, get_peft_model
from torch import nn

import schedsearch

CONFIG = LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)

with_lora = pytest.mark.parametrize("case", DIFFUSERS[2:], ids=lambda case: case.name)


def add_lora(model: Any) -> nn.Module:
    torch.manual_seed(1)
    model.add_adapter(CONFIG)
    return model


@pytest.mark.parametrize("lora_first", [True, False])
@with_lora
def test_lora_in_both_orders(case: Case, lora_first: bool) -> None:
    model = case.make()
    plain = case.expected(450.0)
    if lora_first:
        add_lora(model)
    case.enable(model)
    if not lora_first:
        add_lora(model)
    # NOTE: The adapter is added before the cut, so that its weights are the same.
    expected = case.at(case.cut(add_lora(case.make()), SCHEDULE.depth_at(450.0)), 450.0)
    assert torch.equal(case.at(model, 450.0), expected)
    assert not torch.equal(expected, plain)
    schedsearch.disable(model)


def test_a_model_in_the_wrapper_of_peft_is_enabled_under_it() -> None:
    case = DIFFUSERS[2]
    wrapped = get_peft_model(case.make(), CONFIG)
    case.enable(wrapped)
    case.at(wrapped, 450.0)
    assert schedsearch.summary(wrapped).calls == {SCHEDULE.depth_at(450.0): 1}
    assert not schedsearch.summary(wrapped).notes


def gradients(case: Case, model: nn.Module, clock: float) -> dict[str, torch.Tensor | None]:
    case.call(model, torch.tensor(case.fed(clock)).expand(2)).square().mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("case", DIFFUSERS, ids=lambda case: case.name)
def test_checkpointed_gradients_are_those_of_the_cut_model(case: Case) -> None:
    model = case.make()
    model.enable_gradient_checkpointing()
    case.enable(model)
    found = gradients(case, model, 450.0)
    expected = gradients(case, case.cut(case.make(), SCHEDULE.depth_at(450.0)), 450.0)
    for name, gradient in found.items():
        wanted = expected.get(name)
        if wanted is None:
            assert gradient is None, name
        else:
            assert torch.equal(gradient, wanted), name
    assert any(gradient is None for gradient in found.values())

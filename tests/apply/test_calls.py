"""Calls beside the usual one: guidance of all kinds, skipped layers, ControlNet residuals."""

import sys
from collections import Counter
from typing import Any

import official_modules as official
import pytest
import torch
from model_cases import CLOCKS, DIFFUSERS, OFFICIAL, SCHEDULE, Case, named

import schedsearch
from benchmarks.tiny_pipelines import PIPELINES, random


@pytest.mark.parametrize("case", OFFICIAL[:2], ids=lambda case: case.name)
def test_guidance_past_the_call_of_the_model(case: Case) -> None:
    def run(model: Any, clock: float) -> torch.Tensor:
        t = torch.full((4,), case.fed(clock))
        labels = torch.tensor([1, 2, 10, 10])
        with torch.no_grad():
            return model.forward_with_cfg(random(4, 3, 4), t, labels, 1.5)

    model = case.make()
    case.enable(model)
    for clock in CLOCKS:
        cut = case.cut(case.make(), SCHEDULE.depth_at(clock))
        assert torch.equal(run(model, clock), run(cut, clock))
    assert schedsearch.summary(model).num_calls == len(CLOCKS)


@pytest.mark.parametrize("case", [*DIFFUSERS, OFFICIAL[0]], ids=lambda case: case.name)
def test_a_call_does_little_besides_the_blocks(case: Case) -> None:
    model = case.make()
    case.enable(model)
    attachment = model._schedsearch_schedule
    time = attachment.family.time_argument
    done: Counter[str] = Counter()

    def count(frame: Any, event: str, argument: Any) -> None:
        done[event] += 1

    def call(clock: float) -> None:
        attachment.arm(model, (), {time: torch.tensor(case.fed(clock)).expand(2)})
        for blocks in attachment.lists:
            list(blocks)
        attachment.disarm(model, (), True)

    call(999.0)  # the first of a run looks for caches in every module
    sys.setprofile(count)
    try:
        for clock in range(900, 890, -1):
            call(float(clock))
    finally:
        sys.setprofile(None)
    # NOTE: Calls of functions are counted, because a clock depends on the machine.
    assert (done["call"] + done["c_call"]) / 10 < 200


def test_true_guidance_of_flux_makes_two_calls_of_one_depth() -> None:
    pipeline = PIPELINES["FLUX"]
    negative = {
        "negative_prompt_embeds": random(2, 7, 12, seed=1),
        "negative_pooled_prompt_embeds": random(2, 8, seed=1),
        "true_cfg_scale": 2.0,
    }
    pipe = pipeline.build("flow Euler, shift 3")
    with schedsearch.enabled(pipe, SCHEDULE):
        pipeline.sample(pipe, 4, **negative)
        depths = SCHEDULE.visited(pipe.scheduler.timesteps.tolist())
        assert schedsearch.summary(pipe).calls == {d: 2 * depths.count(d) for d in depths}


def test_skip_guidance_of_sd3_makes_a_third_call() -> None:
    pipeline = PIPELINES["SD3"]
    pipe = pipeline.build("flow Euler, shift 1")
    skip = {"skip_guidance_layers": [1], "skip_layer_guidance_start": -1.0}
    with schedsearch.enabled(pipe, SCHEDULE):
        pipeline.sample(pipe, 4, **skip, skip_layer_guidance_stop=1.0)
        assert schedsearch.summary(pipe).num_calls == 8


@pytest.mark.parametrize("clock", [5.0, 450.0, 999.0])
def test_skipped_layers_inside_an_exit(clock: float) -> None:
    case = named("SD3")
    model = case.make()
    case.enable(model)
    skipped = case.at(model, clock, skip_layers=[0])
    assert torch.equal(skipped, case.expected(clock, skip_layers=[0]))
    assert not torch.equal(skipped, case.at(model, clock))


@pytest.mark.parametrize("clock", [5.0, 450.0, 999.0])
def test_residuals_of_a_controlnet(clock: float) -> None:
    flux, sana = named("FLUX"), named("Sana")
    double = [random(2, 16, 16, seed=i) for i in range(2)]
    single = [random(2, 16, 16, seed=9)] * 4
    residuals = {"controlnet_block_samples": double, "controlnet_single_block_samples": single}
    model = flux.make()
    flux.enable(model)
    # NOTE: Cut by hand, the list is shorter, and so is the interval between residuals.
    depth = SCHEDULE.depth_at(clock)
    cut = {
        "controlnet_block_samples": double[: min(depth, 2)],
        "controlnet_single_block_samples": single[: max(1, depth - 2)],
    }
    assert torch.equal(flux.at(model, clock, **residuals), flux.expected(clock, **cut))

    sd3 = named("SD3")
    model = sd3.make()
    sd3.enable(model)
    image = [random(2, 16, 16, seed=i) for i in range(6)]
    expected = sd3.expected(clock, block_controlnet_hidden_states=image[:depth])
    assert torch.equal(sd3.at(model, clock, block_controlnet_hidden_states=image), expected)

    model = sana.make()
    sana.enable(model)
    tokens = {"controlnet_block_samples": (random(2, 64, 16, seed=3),)}
    assert torch.equal(sana.at(model, clock, **tokens), sana.expected(clock, **tokens))


def test_a_decoder_without_long_skips() -> None:
    case = named("official U-ViT")
    torch.manual_seed(0)
    model = official.UViT(skip=False).eval()
    full = case.at(model, 999.0)
    case.enable(model)
    short = case.at(model, 999.0)
    schedsearch.disable(model)
    expected = case.at(case.cut(model, SCHEDULE.depth_at(999.0)), 999.0)
    assert torch.equal(short, expected)
    assert not torch.equal(short, full)

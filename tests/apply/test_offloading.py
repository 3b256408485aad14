"""Offloading by accelerate and diffusers, before and after ``enable``."""

from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from diffusers.hooks import apply_group_offloading
from model_cases import DIFFUSERS, SCHEDULE, Case

import schedsearch
from benchmarks.tiny_pipelines import PIPELINES


@pytest.mark.parametrize("offload_first", [True, False])
@pytest.mark.parametrize("name", ["DiT", "PixArt-alpha"])
def test_an_offloaded_pipeline_follows_the_schedule_in_every_run(
    name: str, offload_first: bool
) -> None:
    pipeline = PIPELINES[name]
    pipe = pipeline.build("DDIM")
    if offload_first:
        pipe.enable_model_cpu_offload(device="cpu")
    schedsearch.enable(pipe, SCHEDULE)
    if not offload_first:
        pipe.enable_model_cpu_offload(device="cpu")
    # NOTE: A pipeline applies its offloading again after every run.
    expected, samples = pipeline.build("DDIM"), []
    for run in (1, 2, 3):
        samples.append(pipeline.sample(pipe, 5))
        assert schedsearch.summary(pipe).num_calls == 5 * run
    with schedsearch.enabled(expected, SCHEDULE):
        assert torch.equal(samples[0], pipeline.sample(expected, 5))
    assert all(torch.equal(sample, samples[0]) for sample in samples)


def sequential(model: Any) -> None:
    cpu_offload(model, execution_device=torch.device("cpu"))


def group(model: Any, kind: str) -> None:
    device = torch.device("cpu")
    options = {"num_blocks_per_group": 2} if kind == "block_level" else {}
    apply_group_offloading(
        model, onload_device=device, offload_device=device, offload_type=kind, **options
    )


OFFLOADS = {
    "sequential": sequential,
    "group of blocks": lambda model: group(model, "block_level"),
    "group of leaves": lambda model: group(model, "leaf_level"),
}


@pytest.mark.parametrize("offload_first", [True, False])
@pytest.mark.parametrize("how", OFFLOADS)
@pytest.mark.parametrize("case", DIFFUSERS, ids=lambda case: case.name)
def test_an_offloaded_model_follows_the_schedule(
    case: Case, how: str, offload_first: bool
) -> None:
    model = case.make()
    if offload_first:
        OFFLOADS[how](model)
    case.enable(model)
    if not offload_first:
        OFFLOADS[how](model)
    for clock in (5.0, 450.0, 999.0):
        assert torch.equal(case.at(model, clock), case.expected(clock))
    schedsearch.disable(model)

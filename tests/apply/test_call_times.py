"""The time of a call, whatever a model is fed and in which precision."""

from typing import Any

import official_modules as official
import pytest
import torch
from model_cases import SCHEDULE, named
from torch import Tensor

import schedsearch
from benchmarks.tiny_pipelines import PIPELINES, random
from schedsearch.apply.clock import CallTime, clock_of
from schedsearch.exceptions import ConfigError
from schedsearch.families.family import TIMES
from schedsearch.families.recognise import recognise


def read(model: Any, value: Any, time: str | None = None) -> list[float]:
    family = recognise(model)
    reader = CallTime(family, clock_of(family, model, time))
    return reader.read((), {family.time_argument: value})


def test_every_whole_clock_survives_the_arithmetic_of_flux() -> None:
    clocks = torch.arange(1001, dtype=torch.float32)
    fed = clocks.clone() / 1000  # as FluxPipeline, in the latents' dtype
    family = recognise(named("FLUX").make())
    reader = CallTime(family, TIMES["sigma"])
    assert [reader.read((), {"timestep": t})[0] for t in fed] == clocks.tolist()


@pytest.mark.parametrize("scale", [1.0, 0.001, 0.3])
def test_every_whole_clock_survives_the_scale_of_sana(scale: float) -> None:
    model = named("Sana").make()
    model.register_to_config(timestep_scale=scale)
    schedule = schedsearch.ExitSchedule((6, 5, 4, 3, 2, 1, 6, 5, 4, 3))
    schedsearch.enable(model, schedule)
    reader = model._schedsearch_schedule.time
    clocks = torch.arange(1001, dtype=torch.float32)
    read = [reader.read((), {"timestep": t})[0] for t in clocks * scale]
    assert [schedule.interval_of(t) for t in read] == [
        schedule.interval_of(float(t)) for t in range(1001)
    ]


def test_every_step_of_a_uniform_sit_sampler_keeps_its_interval() -> None:
    model = official.SiT()
    for num_steps in (10, 20, 50, 250):
        fed = torch.linspace(0, 1, num_steps + 1)
        clocks = [read(model, t, "sit")[0] for t in fed]
        exact = [1000 * (num_steps - k) / num_steps for k in range(num_steps + 1)]
        assert clocks == pytest.approx(exact, abs=1e-3)
        assert [SCHEDULE.interval_of(t) for t in clocks] == [
            SCHEDULE.interval_of(t) for t in exact
        ]


def test_every_whole_clock_survives_the_arithmetic_of_u_vit() -> None:
    for model in (official.UViT(), named("own U-ViT").make()):
        clocks = torch.arange(1001, dtype=torch.float32)
        fed = clocks * (999 / 1000)
        assert [read(model, t)[0] for t in fed] == clocks.tolist()


@pytest.mark.parametrize(
    "value",
    [
        450,
        450.0,
        torch.tensor(450),
        torch.tensor(450.0),
        torch.tensor([450]),
        torch.tensor([450, 450], dtype=torch.int32),
        torch.tensor(450.0).expand(3),
        torch.tensor([[450.0], [450.0]], dtype=torch.float64),
    ],
)
def test_numbers_and_tensors_of_any_shape_are_read(value: Any) -> None:
    assert read(named("DiT").make(), value) == [450.0]


def test_different_times_are_all_read() -> None:
    assert read(named("DiT").make(), torch.tensor([700, 5, 5])) == [5.0, 700.0]


# ---- half precision ---------------------------------------------------------------------------


class Recorded:
    """Depths of every call of a pipeline's model."""

    def __init__(self, model: Any) -> None:
        self.times: list[Tensor] = []
        model.register_forward_pre_hook(self.keep, with_kwargs=True)

    def keep(self, _: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self.times.append(kwargs["timestep"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scheduler", ["flow Euler, shift 3", "flow Euler, dynamic"])
def test_a_rounded_time_falls_into_the_interval_of_the_scheduler(
    dtype: torch.dtype, scheduler: str
) -> None:
    pipeline = PIPELINES["FLUX"]
    # NOTE: Fifty intervals, so that the rounding of bfloat16 crosses many edges.
    schedule = schedsearch.ExitSchedule(tuple(1 + i % 6 for i in range(50)))
    pipe = pipeline.build(scheduler)
    pipe.to(dtype)
    embeds = {
        name: value.to(dtype) if isinstance(value, Tensor) else value
        for name, value in pipeline.arguments().items()
    }
    recorded = Recorded(pipe.transformer)
    with schedsearch.enabled(pipe, schedule):
        pipeline.sample(pipe, 28, **embeds)
        calls = schedsearch.summary(pipe).calls
    depths = schedule.visited(pipe.scheduler.timesteps.tolist())
    assert calls == {depth: depths.count(depth) for depth in set(depths)}
    assert all(time.dtype == dtype for time in recorded.times)
    rounded = schedule.visited([float(time[0].double() * 1000) for time in recorded.times])
    if dtype == torch.bfloat16:
        assert rounded != depths


def test_a_scheduler_that_disagrees_is_not_believed() -> None:
    pipeline = PIPELINES["FLUX"]
    pipe = pipeline.build("flow Euler, shift 1")
    pipe.scheduler.set_timesteps(10)
    case = named("FLUX")
    with schedsearch.enabled(pipe, SCHEDULE):
        case.at(pipe.transformer, 450.0)  # the scheduler stands at 1000
        assert schedsearch.summary(pipe).last_clock == 450.0


# ---- what a model is fed ----------------------------------------------------------------------


def test_a_sit_is_refused_until_its_time_is_named() -> None:
    ours, repa = official.SiT(), official.RepaSiT()
    with pytest.raises(ConfigError, match=r"Two models are called SiT.*time='sit' or time='sig"):
        schedsearch.enable(ours, SCHEDULE)
    with pytest.raises(ConfigError, match="It has projectors, so it looks like REPA's"):
        schedsearch.enable(repa, SCHEDULE)
    with pytest.raises(ConfigError, match=r"has projectors, as in REPA.*Set time='sigma'"):
        schedsearch.enable(repa, SCHEDULE, time="sit")
    with pytest.raises(ConfigError, match="did you mean 'sit'"):
        schedsearch.enable(ours, SCHEDULE, time="sat")
    with pytest.raises(ConfigError, match="runs 1 blocks, but this SiT runs at least 2"):
        schedsearch.enable(repa, SCHEDULE, time="sigma")


def test_both_kinds_of_sit_run_the_right_depths() -> None:
    schedule = schedsearch.ExitSchedule((6, 6, 5, 5, 4, 4, 3, 3, 2, 2))
    x, labels = random(2, 3, 4), torch.tensor([1, 2])
    for model, time, at_data in ((official.SiT(), "sit", 1.0), (official.RepaSiT(), "sigma", 0.0)):
        schedsearch.enable(model, schedule, time=time)
        model(x, torch.full((2,), at_data), labels)
        assert schedsearch.summary(model).calls == {6: 1}
        model(x, torch.full((2,), abs(at_data - 0.95)), labels)
        assert schedsearch.summary(model).calls == {6: 1, 2: 1}
        assert schedsearch.summary(model).last_clock == 950.0


def test_the_time_of_another_training_can_be_named() -> None:
    model = official.DiT()
    schedsearch.enable(model, SCHEDULE, time="sigma")
    named("official DiT").call(model, torch.tensor([0.95, 0.95]))
    assert schedsearch.summary(model).last_clock == 950.0


def test_a_loaded_network_says_what_it_is_fed() -> None:
    config = {"input_size": 8, "hidden_size": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
    backbone = {"family": "dit", "config": config}
    net = schedsearch.load_backbone(backbone)
    net._schedsearch_diffusion = type("Settings", (), {"betas": "vp"})()
    assert read(net, torch.tensor(999.0)) == [1000.0]
    with pytest.raises(ConfigError, match="contradicts the section diffusion"):
        schedsearch.enable(net, "full", time="timestep")
    net._schedsearch_diffusion = type("Settings", (), {"process": "flow", "time": "sit"})()
    assert read(net, torch.tensor(0.25)) == [750.0]
    linear = schedsearch.load_backbone(backbone)
    assert read(linear, torch.tensor(999.0)) == [999.0]


def test_a_sit_of_ours_is_fed_1_at_the_data() -> None:
    ours = type("SiT", (), {"__module__": "schedsearch.backbones.sit"})()
    assert read(ours, torch.tensor(0.25)) == [750.0]
    assert read(ours, torch.tensor(0.25), "sigma") == [250.0]

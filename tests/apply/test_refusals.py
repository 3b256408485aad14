"""What cannot be right is refused, and then nothing has changed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import official_modules as official
import pytest
import torch
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig
from diffusers.hooks import apply_first_block_cache, apply_pyramid_attention_broadcast
from model_cases import CASES, SCHEDULE, Case, named, state_of
from torch import nn

import schedsearch
from benchmarks.tiny_pipelines import PIPELINES, random
from schedsearch.apply.attachment import Attachment
from schedsearch.apply.clock import check_process, clock_of, process_of
from schedsearch.apply.view import ScheduledBlocks
from schedsearch.backbones.weights.checkpoint import fingerprint
from schedsearch.exceptions import ConfigError, ScheduleError
from schedsearch.families.recognise import recognise
from schedsearch.schedules.hand_made import preset_for
from schedsearch.schedules.schedule_file import (
    ScheduledBackbone,
    ScheduleFile,
    write_schedule_file,
)

CACHE = FirstBlockCacheConfig(threshold=0.1)


def test_a_wrong_argument_changes_nothing(tmp_path: Path) -> None:
    case = named("DiT")
    model = case.make()
    before, untouched = case.at(model, 999.0), state_of(model)
    deep = schedsearch.ExitSchedule((28,) * 10)
    for wrong, message in (
        (deep, r"The schedule runs 28 blocks \(model: 6\)"),
        (schedsearch.ExitSchedule((0,) * 10), "runs at least 1"),
        ("D3-Dit", "did you mean 'D3-DiT'"),
        (tmp_path / "none.yaml", "There is no schedule file or preset"),
        (object(), "takes an exit schedule, a preset or a schedule file, got object"),
    ):
        with pytest.raises(ConfigError, match=message):
            schedsearch.enable(model, wrong)
    with pytest.raises(ConfigError, match="says itself what time it is fed"):
        schedsearch.enable(model, SCHEDULE, time="sigma")
    assert state_of(model) == untouched
    assert torch.equal(case.at(model, 999.0), before)


def test_unknown_classes_name_the_nearest_and_the_table() -> None:
    class FluxTransformerModel(nn.Module):
        pass

    with pytest.raises(ConfigError, match=r"did you mean 'FluxTransformer2DModel'.*table\.py"):
        schedsearch.enable(FluxTransformerModel(), SCHEDULE)
    with pytest.raises(ConfigError, match=r"got object"):
        schedsearch.enable(object(), SCHEDULE)

    class UViT(official.UViT):
        def __init__(self) -> None:
            super().__init__()
            del self.mid_block

    with pytest.raises(ConfigError, match="lacks mid_block of the official UViT"):
        schedsearch.enable(UViT(), SCHEDULE)


def test_sana_sprint_is_fed_an_angle() -> None:
    sana = PIPELINES["Sana"].model()
    untouched = state_of(sana)
    parts = dict.fromkeys(("tokenizer", "text_encoder", "vae"))
    scheduler = diffusers.SCMScheduler()
    pipe = diffusers.SanaSprintPipeline(transformer=sana, scheduler=scheduler, **parts)
    with pytest.raises(ScheduleError, match=r"with SCMScheduler feeds its model an angle"):
        schedsearch.enable(pipe, SCHEDULE)
    assert state_of(sana) == untouched
    sizes = {key: value for key, value in sana.config.items() if not key.startswith("_")}
    sprint = diffusers.SanaTransformer2DModel(**{**sizes, "guidance_embeds": True})
    with pytest.raises(ConfigError, match="guidance_embeds, as in Sana Sprint, which"):
        schedsearch.enable(sprint, SCHEDULE)
    with schedsearch.enabled(named("FLUX").make(), SCHEDULE):
        pass  # NOTE: its guidance is embedded too


def test_an_error_inside_enable_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case = named("FLUX")
    model = case.make()
    before, untouched = case.at(model, 450.0), state_of(model)

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "register_forward_hook", fail)  # the last step but one
        with pytest.raises(KeyboardInterrupt):
            schedsearch.enable(model, SCHEDULE)
    assert state_of(model) == untouched
    assert torch.equal(case.at(model, 450.0), before)
    schedsearch.enable(model, SCHEDULE)


# ---- files ------------------------------------------------------------------------------------


@pytest.fixture
def schedule_file(tmp_path: Path) -> Callable[..., Path]:
    def write(family: str = "dit", num: int = 6, fingerprint: str | None = None) -> Path:
        path = tmp_path / "mine.yaml"
        backbone = ScheduledBackbone(family=family, num_exit_blocks=num, fingerprint=fingerprint)
        write_schedule_file(
            path, ScheduleFile(name="mine", backbone=backbone, depths=SCHEDULE.depths)
        )
        return path

    return write


def test_a_file_has_to_fit_family_and_depth(schedule_file: Callable[..., Path]) -> None:
    case = named("DiT")
    model = case.make()
    with schedsearch.enabled(model, schedule_file()):
        assert torch.equal(case.at(model, 999.0), case.expected(999.0))
    with schedsearch.enabled(model, str(schedule_file("diffusers:DiTTransformer2DModel"))):
        pass
    with pytest.raises(ScheduleError, match=r"for 28 blocks \(model: 6\)"):
        schedsearch.enable(model, schedule_file(num=28))
    with pytest.raises(ScheduleError, match="for the family uvit, but the model is a DiT"):
        schedsearch.enable(model, schedule_file("uvit"))


@pytest.mark.parametrize("name", ["own DiT", "official U-ViT", "PixArt-alpha"])
def test_a_file_has_to_fit_the_weights(name: str, schedule_file: Callable[..., Path]) -> None:
    case = named(name)
    model = case.make()
    family = {"own DiT": "dit", "official U-ViT": "uvit"}.get(
        name, "diffusers:PixArtTransformer2DModel"
    )
    with schedsearch.enabled(model, schedule_file(family, fingerprint=fingerprint(model))):
        pass
    other = schedule_file(family, fingerprint="sha256:0123")
    with pytest.raises(ScheduleError, match=r"weights sha256:0123, but the model's are sha256:.*"):
        schedsearch.enable(model, other)
    with schedsearch.enabled(model, other, strict=False):
        pass


def test_the_weights_of_a_dit_are_known_in_both_layouts(
    schedule_file: Callable[..., Path],
) -> None:
    from diffusers import DiTTransformer2DModel

    from schedsearch.backbones.weights.diffusers_dit import diffusers_state, transformer_config

    net = named("own DiT").make()
    transformer = DiTTransformer2DModel(**transformer_config(net))
    transformer.load_state_dict(diffusers_state(net.state_dict()))
    with schedsearch.enabled(transformer, schedule_file(fingerprint=fingerprint(net))):
        pass
    with torch.no_grad():
        transformer.proj_out_2.bias[0] += 1
    with pytest.raises(ScheduleError, match="measured with the weights"):
        schedsearch.enable(transformer, schedule_file(fingerprint=fingerprint(net)))


def test_a_method_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "method.yaml"
    path.write_text("schema: schedsearch.method/1\nname: mine\n")
    with pytest.raises(ConfigError, match=r"is a method file.*cannot be applied to a pipeline"):
        schedsearch.enable(named("DiT").make(), path)


@pytest.mark.parametrize(("name", "counts"), [("DiT", "ddpm"), ("SD3", "flow")])
def test_a_schedule_for_another_clock_is_refused(name: str, counts: str) -> None:
    model = PIPELINES[name].model()
    clock = clock_of(recognise(model), model, None)
    pipes = [PIPELINES[name].build(scheduler, model) for scheduler in PIPELINES[name].schedulers]
    for pipe in (None, *pipes):
        process = process_of(clock, pipe)
        assert process == counts
        check_process(SimpleNamespace(clock=counts), process)
        check_process(SimpleNamespace(clock=None), process)
        other = {"ddpm": "flow", "flow": "ddpm"}[counts]
        with pytest.raises(ScheduleError, match=f"for the clock {other}, but the model is fed"):
            check_process(SimpleNamespace(clock=other), process)


def test_a_preset_is_not_taken_where_one_is_moved() -> None:
    model = named("SD3").make()
    with pytest.raises(ScheduleError, match=r"fed flow sigmas\. Use D3-DiT@flow"):
        schedsearch.enable(model, "D3-DiT")
    # Also where its name is gone.
    scaled = preset_for("D3-DiT", 6)
    for preset in (scaled, schedsearch.ExitSchedule((6,) * 10, clock="ddpm")):
        with pytest.raises(ScheduleError, match="for the clock ddpm, but the model is fed"):
            schedsearch.enable(model, preset)
    for name in ("full", "D3-DiT@flow"):
        with schedsearch.enabled(model, name):
            pass
    dit = named("DiT").make()
    for schedule in ("D3-DiT", scaled):
        with schedsearch.enabled(dit, schedule):
            pass
    for moved in ("D3-DiT@flow", preset_for("D3-DiT@flow", 6)):
        with pytest.raises(ScheduleError, match="for the clock flow, but the model is fed"):
            schedsearch.enable(dit, moved)
    assert schedsearch.presets["D3-DiT"].clock == "ddpm"


# ---- caches -----------------------------------------------------------------------------------


def test_a_cache_before_enable_is_refused() -> None:
    model = named("FLUX").make()
    model.enable_cache(CACHE)
    with pytest.raises(ScheduleError, match="FirstBlockCacheConfig is active"):
        schedsearch.enable(model, SCHEDULE)
    model.disable_cache()
    schedsearch.enable(model, SCHEDULE)


def test_a_cache_applied_by_hand_is_refused() -> None:
    model = named("PixArt-alpha").make()
    apply_first_block_cache(model, CACHE)
    with pytest.raises(ScheduleError, match=r"FBC.*is active"):
        schedsearch.enable(model, SCHEDULE)
    marked = named("PixArt-alpha").make()
    marked._is_cached = True
    with pytest.raises(ScheduleError, match="cache-dit"):
        schedsearch.enable(marked, SCHEDULE)


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_cache_after_enable_is_refused_in_the_next_call(by_hand: bool) -> None:
    case = named("FLUX")
    model = case.make()
    case.enable(model)
    if by_hand:
        apply_first_block_cache(model, CACHE)
    else:
        model.enable_cache(CACHE)
    with pytest.raises(ScheduleError, match="cannot run together"):
        case.at(model, 450.0)
    assert schedsearch.summary(model).num_calls == 0


@pytest.mark.parametrize("name", ["DiT", "PixArt-alpha", "SD3", "FLUX"])
def test_a_cache_of_attention_after_enable_is_refused_in_the_next_run(name: str) -> None:
    case = named(name)
    model = case.make()
    case.enable(model)
    for clock in (900.0, 450.0):
        case.at(model, clock)
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
    )
    apply_pyramid_attention_broadcast(model, config)
    with pytest.raises(ScheduleError, match="PyramidAttentionBroadcastHook is active"):
        case.at(model, 900.0)
    assert schedsearch.summary(model).num_calls == 2


# ---- calls ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("case", CASES[:-2], ids=lambda case: case.name)
def test_an_error_in_a_block_leaves_the_list_idle(
    case: Case, error: type[BaseException], recwarn: pytest.WarningsRecorder
) -> None:
    model = case.make()
    case.enable(model)
    lists = [module for module in model.modules() if isinstance(module, ScheduledBlocks)]

    def fail(*_: object) -> None:
        raise error("in a block")

    handle = lists[0][0].register_forward_pre_hook(fail)
    with pytest.raises(error, match="in a block"):
        case.at(model, 450.0)
    assert [len(list(blocks)) for blocks in lists] == [len(blocks) for blocks in lists]
    handle.remove()
    assert torch.equal(case.at(model, 450.0), case.expected(450.0))
    assert not recwarn.list


@pytest.mark.parametrize(
    ("part", "guided"),
    [("y_embedder", True), ("y_embedder", False), ("t_embedder", True), ("forward", False)],
)
def test_an_error_before_the_blocks_leaves_the_list_idle(part: str, guided: bool) -> None:
    case = named("official DiT")
    model = case.make()
    case.enable(model)
    x, t, y = random(2, 3, 4), torch.tensor([450, 450]), torch.tensor([1, 2])
    call = partial(model.forward_with_cfg, cfg_scale=2.0) if guided else model
    if part == "y_embedder":
        y[1] = 99
    elif part == "t_embedder":
        model.t_embedder.mlp = nn.Linear(2, 8)
    else:
        y = torch.tensor([1, 2, 3])  # cannot be added to two times
    with pytest.raises((IndexError, RuntimeError)):
        call(x, t, y)
    assert len(list(model.blocks)) == 6
    assert schedsearch.summary(model).num_calls == 0


def test_samples_of_several_depths_are_refused() -> None:
    case = named("DiT")
    model = case.make()
    case.enable(model)
    x, labels = random(3, 4, 8, 8), torch.tensor([1, 2, 3])
    same_depth = torch.tensor([450, 401, 599])
    model(x, timestep=same_depth, class_labels=labels)
    assert schedsearch.summary(model).calls == {4: 1}
    with pytest.raises(ScheduleError, match="clock times 450 and 601, which run 4 and 3 blocks"):
        model(x, timestep=torch.tensor([450, 450, 601]), class_labels=labels)
    assert schedsearch.summary(model).num_calls == 1


@pytest.mark.parametrize("time", [1001.5, -3.0, float("nan"), float("inf")])
def test_a_time_outside_the_clock_is_refused(time: float) -> None:
    case = named("official U-ViT")
    model = case.make()
    case.enable(model)
    with pytest.raises(ScheduleError, match=r"does not fit the clock of a UViT.*enable\(time="):
        case.call(model, torch.tensor([time, time]))


def test_a_call_without_time_is_refused() -> None:
    model = named("DiT").make()
    schedsearch.enable(model, SCHEDULE)
    with pytest.raises(ScheduleError, match="argument timestep, but got NoneType"):
        model(random(2, 4, 8, 8), class_labels=torch.tensor([1, 2]))


def test_a_model_that_does_not_iterate_its_list_is_refused() -> None:
    class SiT(official.SiT):
        rounds = 0

        def forward(self, x: Any, t: Any, y: Any) -> Any:
            x, c = self.x_embedder(x), self.t_embedder(t) + self.y_embedder(y, False)
            for index in range(len(self.blocks)):
                x = self.blocks[index](x, c)
            for _ in range(self.rounds):
                for block in self.blocks:
                    x = block(x, c)
            return self.final_layer(x, c)

    case = named("official SiT")
    model = SiT()
    schedsearch.enable(model, SCHEDULE, time="sit")
    with pytest.raises(ScheduleError, match="iterated a list of blocks never in a call"):
        case.at(model, 999.0)
    model.rounds = 2
    with pytest.raises(ScheduleError, match="iterated a list of blocks twice in a call"):
        case.at(model, 999.0)
    model.rounds = 1
    case.at(model, 999.0)


def test_a_network_of_ours_keeps_the_exit_of_its_caller_out() -> None:
    net = named("own DiT").make()
    schedsearch.enable(net, SCHEDULE)
    with pytest.raises(ScheduleError, match="The call sets exit_depth"):
        schedsearch.sample(net, SCHEDULE, num=2, num_steps=2)
    schedsearch.disable(net)
    schedsearch.sample(net, SCHEDULE, num=2, num_steps=2)


def test_a_list_that_was_replaced_is_refused() -> None:
    model = named("DiT").make()
    model.transformer_blocks = nn.Sequential(*model.transformer_blocks)
    with pytest.raises(ScheduleError, match="has Sequential there"):
        schedsearch.enable(model, SCHEDULE)
    assert not any(isinstance(value, Attachment) for value in vars(model).values())

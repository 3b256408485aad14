"""The fine-tune's loop: its numbers, its resumption, what it refuses."""

import math
from typing import Any

import pytest
import torch
from tiny_finetunes import (
    EXITS,
    PROCESS,
    SCHEDULE,
    ListProgress,
    SpyData,
    finetune,
    make_net,
    make_recipe,
)

from schedsearch.backbones.weights.checkpoint import fingerprint
from schedsearch.data.digits import load_digits
from schedsearch.diffusion.losses import mse
from schedsearch.exceptions import TrialError
from schedsearch.protocols import ExitRule
from schedsearch.schedules.exit_rules import RandomScheduleExits, ScheduleExits
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace
from schedsearch.settings import LambdaSettings
from trainers.ema import resolve_decay
from trainers.finetune_loop import learning_rate


def test_against_a_loop_written_out() -> None:
    """One sample at a time, plain AdamW and the EMA formula."""
    recipe = make_recipe(
        num_steps=3,
        label_dropout=0.5,
        lr_schedule="cosine",
        weight_decay=0.1,
        lambda_weighting=LambdaSettings(max=4.0, until=0.67),
    )
    progress = ListProgress()
    trained = finetune(make_net(), recipe, progress, seed=5)

    net, digits = make_net(), load_digits()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.1)
    decay = resolve_decay("auto", 3)
    average = {name: p.detach().clone() for name, p in net.named_parameters()}
    generator = torch.Generator().manual_seed(5)
    losses = []
    for step in range(3):
        x0, y = digits.batch(16, generator)
        assert y is not None
        t = torch.randint(1000, (16,), generator=generator)
        noise = torch.randn(x0.shape, generator=generator)
        y = torch.where(torch.rand(16, generator=generator) < 0.5, 10, y)
        total = torch.zeros(())
        for i in range(16):
            one = slice(i, i + 1)
            x_t = PROCESS.q_sample(x0[one], t[one], noise[one])
            depth = SCHEDULE.depth_at(float(t[i]))
            error = mse(net(x_t, t[one], y[one], exit_depth=depth), noise[one])[0]
            weight = 1 + 3 * (int(t[i]) // 100) / 9 if step < 2 else 1.0
            total = total + weight * error / 16
        optimizer.zero_grad()
        total.backward()
        losses.append(total.item())
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in net.parameters()))
        for parameter in net.parameters():
            parameter.grad *= min(1.0, 1.0 / (norm + 1e-6))
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 + math.cos(math.pi * step / 3)) / 2
        optimizer.step()
        for name, p in net.named_parameters():
            average[name] = decay * average[name] + (1 - decay) * p.detach()

    assert progress.losses == pytest.approx(losses, rel=1e-4)
    for name, parameter in trained.named_parameters():
        torch.testing.assert_close(parameter, average[name], rtol=1e-3, atol=1e-4)


def test_loss_falls_and_the_result_is_the_ema_in_eval_mode() -> None:
    net, progress = make_net(), ListProgress()
    recipe = make_recipe(num_steps=60, lambda_weighting=LambdaSettings(kind="none"))
    trained = finetune(net, recipe, progress)
    first, last = sum(progress.losses[:10]) / 10, sum(progress.losses[-10:]) / 10
    assert last < 0.6 * first
    assert trained is not net
    assert not trained.training
    assert fingerprint(trained) != fingerprint(net)  # the average, not the last weights


@pytest.mark.parametrize("cut", [1, 4, 6])
@pytest.mark.parametrize(
    "exits",
    [EXITS, RandomScheduleExits(SearchSpace(1, 3))],
    ids=["schedule", "random"],
)
def test_resume_is_bit_for_bit(cut: int, exits: ExitRule) -> None:
    recipe = make_recipe(
        lr_schedule="cosine", lambda_weighting=LambdaSettings(until="plateau", max=2.0)
    )
    whole = ListProgress()
    expected = fingerprint(finetune(make_net(), recipe, whole, exits))
    # A worker starts from the checkpoint again; nothing but the state may matter.
    resumed = ListProgress(whole.states[cut])
    actual = finetune(make_net(seed=99), recipe, resumed, exits)
    assert fingerprint(actual) == expected
    assert whole.losses[cut:] == resumed.losses
    assert any(f"resumed after step {cut} of 6" in note for note in resumed.notes)


def test_saved_states_do_not_change_later_and_fit_into_a_file(tmp_path: Any) -> None:
    progress = ListProgress()
    finetune(make_net(), make_recipe(), progress)
    first, last = progress.states[1]["model"], progress.states[6]["model"]
    assert not torch.equal(first["blocks.0.mlp.fc1.weight"], last["blocks.0.mlp.fc1.weight"])
    torch.save(progress.states[3], tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    recipe, resumed = make_recipe(), ListProgress(loaded)
    finetune(make_net(seed=3), recipe, resumed)
    assert resumed.losses == progress.losses[3:]


def test_trials_are_paired() -> None:
    """The same batches for every schedule, others for another seed."""
    runs = []
    for exits, seed in (
        (EXITS, 0),
        (ScheduleExits(ExitSchedule.flat(3)), 0),
        (EXITS, 1),
    ):
        data = SpyData()
        finetune(make_net(), make_recipe(), exits=exits, seed=seed, data=data)
        runs.append(torch.stack(data.drawn))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_zero_steps_give_the_pretrained_model_back() -> None:
    net = make_net()
    before = fingerprint(net)
    trained = finetune(net, make_recipe(num_steps=0))
    assert trained is net
    assert fingerprint(trained) == before
    assert not trained.training


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_at_its_step(bad: float) -> None:
    class BreaksAtStep3(ListProgress):
        def report(self, step: int, loss: float, **values: float) -> None:
            super().report(step, loss, **values)
            if step == 2:
                with torch.no_grad():
                    net.final_layer.linear.bias[0] = bad

    net, progress = make_net(), BreaksAtStep3()
    with pytest.raises(TrialError, match="at step 3 of 6") as caught:
        finetune(net, make_recipe(), progress)
    assert caught.value.stage == "fine-tune"
    assert sorted(progress.states) == [1, 2]  # nothing broken is saved
    kept = caught.value.network
    assert isinstance(kept, torch.nn.Module)
    for name, value in kept.state_dict().items():
        torch.testing.assert_close(value, progress.states[2]["ema"][f"module.{name}"])


def test_slow_ema_is_said() -> None:
    progress = ListProgress()
    trained = finetune(make_net(), make_recipe(ema_decay=0.9999), progress)
    assert any("100 % of the EMA are still the pretrained" in note for note in progress.notes)
    torch.testing.assert_close(trained.state_dict(), make_net().state_dict(), atol=1e-3, rtol=0)
    quiet = ListProgress()
    finetune(make_net(), make_recipe(), quiet)
    assert quiet.notes == []


def test_learning_rate() -> None:
    cosine = make_recipe(num_steps=4, lr=1.0, lr_schedule="cosine")
    expected = [1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)]
    assert [learning_rate(cosine, step) for step in range(4)] == pytest.approx(expected)
    assert learning_rate(make_recipe(lr=0.3), 5) == 0.3

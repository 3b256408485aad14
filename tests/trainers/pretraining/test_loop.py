import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.weights.checkpoint import fingerprint, load_weights
from schedsearch.data.digits import load_digits
from schedsearch.diffusion.process import DDPMProcess, VPProcess
from schedsearch.exceptions import ConfigError, TrialError
from schedsearch.protocols import NoiseProcess
from trainers.pretraining.loop import Plan, Pretraining, lr_factor, train

SETTINGS = {"lr": 0.01}


def make_net() -> DiT:
    torch.manual_seed(0)
    net = DiT(8, 4, 1, 16, 2, 2, num_classes=10, learn_sigma=False)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net


def make_run(process: NoiseProcess | None = None, **overrides: Any) -> Pretraining:
    plan = Plan(**{"steps": 6, "batch_size": 8, "lr": 1e-2, "warmup_steps": 2, **overrides})
    return Pretraining(make_net(), load_digits(), process or DDPMProcess(), plan)


def finish(run: Pretraining, state: Path, settings: dict[str, Any] = SETTINGS) -> list[str]:
    notes: list[str] = []
    train(run, state, settings, save_seconds=0.0, note=notes.append)
    return notes


@pytest.mark.parametrize(
    ("process", "target"),
    [
        (DDPMProcess(), lambda alpha, sigma, x0, noise: noise),
        (DDPMProcess("cosine", "x0"), lambda alpha, sigma, x0, noise: x0),
        (VPProcess("v"), lambda alpha, sigma, x0, noise: alpha * noise - sigma * x0),
    ],
    ids=["linear-eps", "cosine-x0", "vp-v"],
)
def test_against_a_loop_written_out(process: Any, target: Any) -> None:
    run = make_run(process, label_dropout=0.5, weight_decay=0.1, ema_decay=0.7, seed=3)
    times: list[Tensor] = []
    run.net.register_forward_pre_hook(lambda _, inputs: times.append(inputs[1]))
    losses = [run.train_step() for _ in range(6)]

    net, digits = make_net(), load_digits()
    average = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    generator = torch.Generator().manual_seed(3)
    for step, lr in enumerate([0.5, 1.0, 1.0, 1.0, 2 / 2.4, 1 / 2.4]):
        x0, y = digits.batch(8, generator)
        assert y is not None
        t = process.draw_times(8, generator)
        noise = torch.randn(x0.shape, generator=generator)
        y = torch.where(torch.rand(8, generator=generator) < 0.5, 10, y)
        alpha, sigma = (scale.float().view(-1, 1, 1, 1) for scale in process.scales(t))
        time = 0.999 * t if isinstance(process, VPProcess) else t
        torch.testing.assert_close(times[step], time)
        output = net(alpha * x0 + sigma * noise, time, y, exit_depth=2)
        loss = (output - target(alpha, sigma, x0, noise)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in net.parameters()))
        for p in net.parameters():
            p.grad *= min(1.0, 1.0 / norm)
        optimizer.param_groups[0]["lr"] = 1e-2 * lr
        optimizer.step()
        for mean, p in zip(average.parameters(), net.parameters(), strict=True):
            mean.data = 0.7 * mean.data + 0.3 * p.data
        assert losses[step] == pytest.approx(loss.item(), rel=1e-4)
    trained = run.averaged()
    assert not trained.training
    torch.testing.assert_close(trained.state_dict(), average.state_dict(), rtol=1e-3, atol=1e-4)


class Killed(BaseException):
    """Ends a training as a signal would."""


@pytest.mark.parametrize("steps", [1, 4])
def test_a_killed_training_goes_on_bit_for_bit(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "net.state"
    whole = make_run()
    finish(whole, tmp_path / "whole.state")
    expected = fingerprint(whole.averaged()), list(whole.losses)

    step, original = 0, Pretraining.train_step

    def dies(run: Pretraining) -> float:
        nonlocal step
        step += 1
        if step == steps + 1:
            raise Killed
        return original(run)

    monkeypatch.setattr(Pretraining, "train_step", dies)
    with pytest.raises(Killed):
        finish(make_run(), state)
    monkeypatch.undo()
    again = make_run()
    notes = finish(again, state)
    assert f"resuming after step {steps} of 6" in notes[0]
    assert (fingerprint(again.averaged()), list(again.losses)) == expected
    assert [path.name for path in tmp_path.glob(".*")] == []  # no half-written file is left


def test_weights_can_be_taken_from_a_running_training(tmp_path: Path) -> None:
    """The state is a checkpoint as well: the EMA weights after step 5, of 6."""
    run = make_run()
    finish(run, tmp_path / "net.state")
    after_5 = make_run()
    for _ in range(5):
        after_5.train_step()
    torch.save(torch.load(tmp_path / "net.state", weights_only=True), tmp_path / "net.pt")
    net = make_net()
    load_weights(net, tmp_path / "net.pt")
    assert fingerprint(net) == fingerprint(after_5.averaged())


def test_a_state_of_another_training_or_damaged_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "net.state"
    finish(make_run(), state)
    with pytest.raises(ConfigError, match=r"another training: lr was 0.01 and is 0.02\. Repeat"):
        finish(make_run(), state, {"lr": 0.02})
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"cannot be read .* remove it to start again"):
        finish(make_run(), state)


def test_saving_keeps_its_pace(tmp_path: Path) -> None:
    state = tmp_path / "net.state"
    train(make_run(), state, SETTINGS, save_seconds=3600.0, note=lambda line: None)
    assert not state.exists()


def test_progress_says_loss_and_speed(tmp_path: Path) -> None:
    run = make_run()
    notes = finish(run, tmp_path / "net.state")
    mean = sum(run.losses) / 6
    assert notes[-1].startswith(f"step 6/6  loss {mean:.4f}  ")
    assert " images/s " in notes[-1]
    assert run.mean_loss(2) == pytest.approx(sum(list(run.losses)[-2:]) / 2)


def test_a_loss_that_is_not_finite_stops_it(tmp_path: Path) -> None:
    run = make_run()
    with torch.no_grad():
        next(run.net.parameters())[0] = math.nan
    with pytest.raises(TrialError, match="at step 1 of 6; lower --lr"):
        finish(run, tmp_path / "net.state")
    assert not (tmp_path / "net.state").exists()


def test_bfloat16_keeps_weights_in_float32() -> None:
    outputs: list[Tensor] = []
    run = make_run(precision="bf16")
    run.net.register_forward_hook(lambda _, __, output: outputs.append(output))
    exact = make_run()
    assert run.train_step() == pytest.approx(exact.train_step(), rel=0.05)
    assert outputs[0].dtype == torch.bfloat16
    assert {p.dtype for p in run.net.parameters()} == {torch.float32}


def test_learning_rate_is_a_trapezoid() -> None:
    factors = [lr_factor(step, 1000) for step in range(1000)]
    assert factors[:3] == pytest.approx([0.01, 0.02, 0.03])
    assert factors[99:600] == [1.0] * 501
    assert factors[800] == pytest.approx(0.5)
    assert factors[999] == pytest.approx(1 / 400)
    assert [lr_factor(step, 4, warmup_steps=0, decay_share=0.0) for step in range(4)] == [1.0] * 4

"""Fine-tunes of all exits: their loop, what they return, what they refuse."""

import math
from typing import Any

import pytest
import torch
from tiny_finetunes import (
    EXITS,
    NO_LAMBDA,
    PROCESS,
    ListProgress,
    SpyData,
    changed,
    finetune,
    make_net,
    make_recipe,
    make_uvit,
)
from torch import Tensor, nn

from schedsearch.backbones.weights.checkpoint import fingerprint
from schedsearch.diffusion.losses import mse
from schedsearch.exceptions import ConfigError, TrialError
from schedsearch.methods.exits.uncertainty import UncertaintyExit, WithUncertainty
from schedsearch.protocols import Trainer
from schedsearch.schedules.exit_rules import ScheduleExits
from schedsearch.schedules.exit_schedule import ExitSchedule
from trainers.deediff import DeeDiffTrainer
from trainers.layerwise import LayerwiseTrainer

BERXIT = {"weights": "mean", "uem": "shared", "time": False}
CALM = {"weights": "linear", "uem": "none"}
CASES = {
    "deediff": (DeeDiffTrainer, {}),
    "deediff code": (DeeDiffTrainer, {"variant": "code"}),
    "berxit": (LayerwiseTrainer, BERXIT),
    "berxit alternating": (LayerwiseTrainer, {**BERXIT, "alternate": True}),
    "calm": (LayerwiseTrainer, CALM),
}

cases = pytest.mark.parametrize(("trainer", "extra"), CASES.values(), ids=CASES)


def tune(
    trainer: type[Any],
    net: nn.Module,
    progress: ListProgress | None = None,
    *,
    data: SpyData | None = None,
    seed: int = 0,
    **recipe: Any,
) -> Any:
    return trainer().finetune(
        net,
        EXITS,
        data or SpyData(),
        PROCESS,
        make_recipe(**recipe),
        progress or ListProgress(),
        seed,
    )


def errors_of_all_exits(net: Any) -> list[float]:
    """Mean squared error of every exit on fixed samples."""
    generator = torch.Generator().manual_seed(7)
    x0, y = SpyData().batch(64, generator)
    t = torch.randint(1000, (64,), generator=generator)
    noise = torch.randn(x0.shape, generator=generator)
    x_t = PROCESS.q_sample(x0, t, noise)
    with torch.no_grad():
        return [float(mse(net(x_t, t, y, exit_depth=depth), noise).mean()) for depth in (1, 2, 3)]


# ---- training -----------------------------------------------------------------------------------


@cases
def test_every_exit_learns(trainer: type[Any], extra: dict[str, Any]) -> None:
    progress = ListProgress()
    trained = tune(
        trainer, make_net(), progress, num_steps=60, extra=extra, lambda_weighting=NO_LAMBDA
    )
    assert not trained.training
    assert isinstance(trained, WithUncertainty) is (extra.get("uem") != "none")
    before, after = errors_of_all_exits(make_net()), errors_of_all_exits(trained)
    assert all(b < 0.75 * a for a, b in zip(before, after, strict=True))
    if isinstance(trained, WithUncertainty):
        losses = [v["uncertainty"] for v in progress.values if "uncertainty" in v]
        assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
        code = extra.get("variant") == "code"
        method = UncertaintyExit(threshold=0.3, variant="code" if code else "paper")
        method.begin(trained, (1.0,), guided=False)


@cases
@pytest.mark.parametrize("cut", [1, 4])
@pytest.mark.parametrize("make", [make_net, make_uvit], ids=["dit", "uvit"])
def test_resume_is_bit_for_bit(
    trainer: type[Any], extra: dict[str, Any], cut: int, make: Any
) -> None:
    numbers = {"lr_schedule": "cosine", "label_dropout": 0.0, "extra": extra}
    whole = ListProgress()
    expected = fingerprint(tune(trainer, make(), whole, **numbers))
    resumed = ListProgress(whole.states[cut])
    fresh = make()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1)
    assert fingerprint(tune(trainer, fresh, resumed, **numbers)) == expected
    assert whole.losses[cut:] == resumed.losses
    assert any(f"resumed after step {cut} of 6" in note for note in resumed.notes)


def test_states_are_plain_tensors_in_a_file(tmp_path: Any) -> None:
    progress = ListProgress()
    tune(DeeDiffTrainer, make_net(), progress)
    torch.save(progress.states[3], tmp_path / "state.pt")
    resumed = ListProgress(torch.load(tmp_path / "state.pt", weights_only=True))
    tune(DeeDiffTrainer, make_net(seed=3), resumed)
    assert resumed.losses == progress.losses[3:]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("overrides", [{}, {"learn_sigma": True}], ids=["eps", "sigma"])
def test_without_the_new_losses_it_is_ases_fine_tune_at_full_depth(
    weight_decay: float, overrides: dict[str, Any]
) -> None:
    numbers = {"num_steps": 3, "weight_decay": weight_decay, "lambda_weighting": NO_LAMBDA}
    net = tune(DeeDiffTrainer, make_net(**overrides), extra={"lambda": 0, "beta": 0}, **numbers)
    ase = finetune(
        make_net(**overrides),
        make_recipe(**numbers),
        exits=ScheduleExits(ExitSchedule.flat(3)),
    )
    assert fingerprint(net.net) == fingerprint(ase)


@cases
def test_batches_are_those_of_ase(trainer: type[Any], extra: dict[str, Any]) -> None:
    spies = SpyData(), SpyData()
    tune(trainer, make_net(), data=spies[0], extra=extra)
    finetune(make_net(), make_recipe(), data=spies[1])
    assert torch.equal(torch.stack(spies[0].drawn), torch.stack(spies[1].drawn))


@pytest.mark.parametrize("case", [name for name in CASES if name != "deediff code"])
def test_parts_of_a_batch_give_its_gradient(case: str) -> None:
    """All but the code's weights, which are means over a part."""
    trainer, extra = CASES[case]
    whole, parts = (
        tune(trainer, make_net(), extra=extra, num_steps=3, accumulate=accumulate)
        for accumulate in (1, 3)
    )
    torch.testing.assert_close(whole.state_dict(), parts.state_dict(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("make", [make_net, make_uvit], ids=["dit", "uvit"])
def test_gradient_checkpointing_changes_no_result(make: Any) -> None:
    plain, saving = (
        tune(
            DeeDiffTrainer,
            make(),
            num_steps=2,
            gradient_checkpointing=on,
            label_dropout=0.0,
        )
        for on in (False, True)
    )
    torch.testing.assert_close(plain.state_dict(), saving.state_dict())
    assert not saving.gradient_checkpointing


def test_bfloat16_keeps_float32_weights() -> None:
    progress, exact = ListProgress(), ListProgress()
    trained = tune(DeeDiffTrainer, make_net(), progress, precision="bf16")
    assert {p.dtype for p in trained.parameters()} == {torch.float32}
    tune(DeeDiffTrainer, make_net(), exact)
    assert progress.losses == pytest.approx(exact.losses, rel=0.2)
    assert progress.losses != exact.losses


def test_all_exits_of_a_uvit() -> None:
    for exits, num in (("decoder", 4), ("all", 7)):
        trained = tune(
            DeeDiffTrainer, make_uvit(), label_dropout=0.0, extra={"exits": exits}, num_steps=1
        )
        assert len(trained.uem.weight) == num
        UncertaintyExit(threshold=0.3, exits=exits).begin(  # type: ignore[arg-type]
            trained, (1.0,), guided=False
        )


def test_frozen_time_embedder() -> None:
    start = make_net().state_dict()
    trained = tune(DeeDiffTrainer, make_net(), freeze_time_embedder=True).state_dict()
    names: set[str] = changed(start, trained)
    assert not any(name.startswith("t_embedder") for name in names)
    assert any(name.startswith("blocks.0.") for name in names)


# ---- ends ---------------------------------------------------------------------------------------


@cases
def test_zero_steps_change_nothing(trainer: type[Any], extra: dict[str, Any]) -> None:
    trained = tune(trainer, make_net(), num_steps=0, extra=extra)
    own: dict[str, Tensor] = trained.state_dict()
    for name, value in make_net().state_dict().items():
        assert torch.equal(own[name], value)
    assert not trained.training


def test_a_second_fine_tune_starts_with_a_fresh_module() -> None:
    once = tune(DeeDiffTrainer, make_net())
    twice = tune(LayerwiseTrainer, once, num_steps=0, extra=BERXIT)
    assert isinstance(twice, WithUncertainty)
    assert not isinstance(twice.net, WithUncertainty)
    assert not twice.uem.weight.any()
    assert not isinstance(tune(LayerwiseTrainer, twice, num_steps=0, extra=CALM), WithUncertainty)


def test_a_loss_that_is_not_finite_stops_at_its_step() -> None:
    class BreaksAtStep3(ListProgress):
        def report(self, step: int, loss: float, **values: float) -> None:
            super().report(step, loss, **values)
            if step == 2:
                with torch.no_grad():
                    net.final_layer.linear.bias[0] = math.nan

    net, progress = make_net(), BreaksAtStep3()
    with pytest.raises(TrialError, match="at step 3 of 6"):
        tune(DeeDiffTrainer, net, progress)
    assert sorted(progress.states) == [1, 2]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"weigths": "mean"}, "no option 'weigths' .* did you mean weights"),
        ({"x": 1}, "no option 'x' .* there are weights, uem,"),
        ({"lambda_": 1}, "no option 'lambda_' .* did you mean lambda"),
        ({"weights": "square"}, "weights must be mean or linear or ual, got 'square'"),
        ({"uem": True}, "uem must be none or own or shared, got True"),
        ({"exits": "encoder"}, "exits must be decoder or all"),
        ({"uem": "own", "time": 1}, "time must be true or false, got 1"),
        ({"uem": "own", "lambda": "1"}, "lambda must be a number >= 0, got '1'"),
        ({"uem": "own", "lambda": -1}, "lambda must be a number >= 0, got -1"),
        ({"uem": "own", "lambda": True}, "lambda must be a number >= 0, got True"),
        ({"weights": "ual", "uem": "own", "beta": math.inf}, "beta must be a number"),
        ({"weights": "ual"}, "recipe.extra.uem is none; set it to own or shared"),
        ({"lambda": 1}, "lambda has no effect, because recipe.extra.uem is none"),
        ({"time": False}, "time has no effect"),
        ({"beta": 1}, "beta has no effect with weights mean"),
    ],
    ids=str,
)
def test_wrong_options(extra: dict[str, Any], message: str) -> None:
    for num_steps in (0, 6):
        with pytest.raises(ConfigError, match=message):
            tune(LayerwiseTrainer, make_net(), extra=extra, num_steps=num_steps)


def test_a_network_that_cannot_run_block_by_block() -> None:
    with pytest.raises(ConfigError, match="LayerwiseTrainer runs the network block by block"):
        tune(LayerwiseTrainer, nn.Linear(1, 1))


def test_time_is_seen_in_the_paper_alone_unless_told_otherwise() -> None:
    def sees_time(**extra: Any) -> bool:
        trained = tune(DeeDiffTrainer, make_net(), num_steps=0, extra=extra)
        return bool(trained.uem.time)

    assert sees_time()
    assert not sees_time(variant="code")
    assert not sees_time(time=False)
    assert sees_time(variant="code", time=True)


def test_they_are_trainers() -> None:
    trainers: list[Trainer] = [LayerwiseTrainer(), DeeDiffTrainer()]
    assert len(trainers) == 2

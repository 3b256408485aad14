import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from schedsearch.backbones.checkpoint import fingerprint
from schedsearch.backbones.dit import DiT
from schedsearch.backbones.uvit import UViT
from schedsearch.data.digits import load_digits
from schedsearch.diffusion.losses import mse
from schedsearch.diffusion.process import DDPMProcess, VPProcess
from schedsearch.exceptions import ConfigError, TrialError
from schedsearch.exit_rules import RandomScheduleExits, ScheduleExits, UniformExits
from schedsearch.protocols import ExitRule, NoiseProcess
from schedsearch.schedule import ExitSchedule
from schedsearch.settings import LambdaSettings, RecipeSettings
from schedsearch.space import SearchSpace
from trainers.ase import AseTrainer, learning_rate
from trainers.ema import resolve_decay
from trainers.options import checkpointing

SCHEDULE = ExitSchedule((3, 3, 3, 2, 2, 2, 2, 1, 1, 1))
EXITS = ScheduleExits(SCHEDULE)
PROCESS = DDPMProcess()


class ListProgress:
    """Keeps reports and notes; saves every step and resumes from a given state."""

    def __init__(self, start: dict[str, Any] | None = None) -> None:
        self.losses: list[float] = []
        self.values: list[dict[str, float]] = []
        self.notes: list[str] = []
        self.states: dict[int, dict[str, Any]] = {}
        self._start = start

    def report(self, step: int, loss: float, **values: float) -> None:
        self.losses.append(loss)
        self.values.append(values)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def save(self, step: int, state: Callable[[], Mapping[str, Any]]) -> None:
        self.states[step] = dict(state())

    def restore(self) -> dict[str, Any] | None:
        return copy.deepcopy(self._start)


class SpyData:
    """Digits that remember what was drawn."""

    def __init__(self, labelled: bool = True) -> None:
        self._digits = load_digits()
        self._labelled = labelled
        self.drawn: list[Tensor] = []

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        images, labels = self._digits.batch(size, generator)
        self.drawn.append(images)
        return images, labels if self._labelled else None


def make_net(seed: int = 0, **overrides: Any) -> DiT:
    config = {"num_classes": 10, "learn_sigma": False, **overrides}
    torch.manual_seed(seed)
    net = DiT(8, 4, 1, 16, 3, 2, **config)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net


def make_uvit(**overrides: Any) -> UViT:
    config = {"num_classes": 10, **overrides}
    torch.manual_seed(0)
    return UViT(8, 4, 1, 16, 6, 2, **config)


NO_LAMBDA = LambdaSettings(kind="none")


def make_recipe(**overrides: Any) -> RecipeSettings:
    numbers = {"num_steps": 6, "batch_size": 16, "lr": 1e-2, **overrides}
    return RecipeSettings(**numbers)


def finetune(
    net: nn.Module,
    recipe: RecipeSettings,
    progress: ListProgress | None = None,
    exits: ExitRule = EXITS,
    seed: int = 0,
    data: SpyData | None = None,
    process: NoiseProcess = PROCESS,
) -> nn.Module:
    trained = AseTrainer().finetune(
        net,  # type: ignore[arg-type]
        exits,
        data or SpyData(),
        process,
        recipe,
        progress or ListProgress(),
        seed,
    )
    assert isinstance(trained, type(net))
    return trained


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
    [EXITS, UniformExits(1, 3), RandomScheduleExits(SearchSpace(1, 3))],
    ids=["schedule", "uniform", "random"],
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


def test_slow_ema_is_said() -> None:
    progress = ListProgress()
    trained = finetune(make_net(), make_recipe(ema_decay=0.9999), progress)
    assert any("100 % of the EMA are still the pretrained" in note for note in progress.notes)
    torch.testing.assert_close(trained.state_dict(), make_net().state_dict(), atol=1e-3, rtol=0)
    quiet = ListProgress()
    finetune(make_net(), make_recipe(), quiet)
    assert quiet.notes == []


def test_frozen_time_embedder() -> None:
    net, start = make_net(), make_net().state_dict()
    trained = finetune(net, make_recipe(freeze_time_embedder=True)).state_dict()
    names = changed(start, trained)
    assert not any(name.startswith("t_embedder") for name in names)
    assert any(name.startswith("blocks.0.") for name in names)


def test_what_a_backbone_cannot_do() -> None:
    net = make_net()
    del net.t_embedder
    with pytest.raises(ConfigError, match="'t_embedder' or 'time_embed', but DiT has none"):
        finetune(net, make_recipe(freeze_time_embedder=True))
    with pytest.raises(ConfigError, match="set label_dropout to 0"):
        finetune(make_net(class_dropout_prob=0.0), make_recipe())
    with pytest.raises(ConfigError, match="the data has no labels"):
        finetune(make_net(), make_recipe(), data=SpyData(labelled=False))


@pytest.mark.parametrize("labelled", [False, True])
def test_an_unconditional_network_sees_no_labels(labelled: bool) -> None:
    net, start = make_net(num_classes=0), make_net(num_classes=0).state_dict()
    seen = labels_seen(net)
    trained = finetune(net, make_recipe(), data=SpyData(labelled)).state_dict()
    assert seen == [None] * 6
    assert any(name.startswith("blocks.0.") for name in changed(start, trained))


def test_without_a_null_class_every_label_is_a_class() -> None:
    net, start = make_net(class_dropout_prob=0.0), make_net(class_dropout_prob=0.0).state_dict()
    seen = labels_seen(net)
    trained = finetune(net, make_recipe(label_dropout=0.0)).state_dict()
    assert len(seen) == 6
    assert all(y is not None and set(y.tolist()) <= set(range(10)) for y in seen)
    assert "y_embedder.embedding_table.weight" in changed(start, trained)


def labels_seen(net: nn.Module) -> list[Tensor | None]:
    """The labels of every later call of the network, as the calls are made."""
    seen: list[Tensor | None] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        seen.append(inputs[2] if len(inputs) > 2 else options.get("y"))

    net.register_forward_pre_hook(keep, with_kwargs=True)
    return seen


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def variance_rows(net: nn.Module) -> Tensor:
    """Weights that make the variance half of one channel: the last of each patch's pixels."""
    assert isinstance(net, DiT)
    return net.final_layer.linear.weight.detach().reshape(16, 2, -1)[:, 1].clone()


def test_a_learned_variance_is_trained_by_the_hybrid_loss_alone() -> None:
    for loss, trains in (("auto", True), ("hybrid", True), ("mse", False)):
        net, progress = make_net(learn_sigma=True), ListProgress()
        before = variance_rows(net)
        recipe = make_recipe(num_steps=3, loss=loss, lambda_weighting=NO_LAMBDA)
        trained = finetune(net, recipe, progress)
        assert torch.equal(variance_rows(trained), before) is not trains
        values = progress.values[0]
        assert ("vlb" in values) is trains
        assert progress.losses[0] == pytest.approx(values["mse"] + values.get("vlb", 0.0))


def test_hybrid_without_a_learned_variance_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set recipe.loss to mse or auto"):
        finetune(make_net(), make_recipe(loss="hybrid"))


def test_v_prediction_at_continuous_times_of_a_uvit() -> None:
    """The first loss, written out: v target, 999 s to the network, depths asked at 1000 s."""
    process, progress = VPProcess("v"), ListProgress()
    recipe = make_recipe(num_steps=2, label_dropout=0.0, lambda_weighting=NO_LAMBDA)
    start, net, times = make_uvit(), make_uvit(), []
    net.register_forward_pre_hook(lambda _, inputs: times.append(inputs[1]))
    finetune(net, recipe, progress, process=process, seed=2)

    generator = torch.Generator().manual_seed(2)
    x0, y = load_digits().batch(16, generator)
    s = torch.rand(16, generator=generator).double()
    noise = torch.randn(x0.shape, generator=generator)
    torch.testing.assert_close(times[0], 999 * s.float())
    alpha = torch.exp(-(0.05 * s + 19.9 * s**2 / 4)).float().view(-1, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()
    depths = torch.tensor([SCHEDULE.depths[int(10 * time)] for time in s.tolist()])
    output = start(alpha * x0 + sigma * noise, 999 * s.float(), y, exit_depth=depths)
    expected = (output - (alpha * noise - sigma * x0)).square().mean()
    assert progress.losses[0] == pytest.approx(expected.item(), rel=1e-4)


def test_parts_of_a_batch_give_its_gradient() -> None:
    """16 samples in 3 uneven parts: the same data, losses and weights up to rounding."""
    runs = []
    for accumulate in (1, 3, 16):
        data, progress = SpyData(), ListProgress()
        recipe = make_recipe(num_steps=4, accumulate=accumulate, weight_decay=0.1)
        trained = finetune(make_net(learn_sigma=True), recipe, progress, data=data)
        runs.append((trained.state_dict(), progress, torch.stack(data.drawn)))
    whole, whole_progress, drawn = runs[0]
    for state, progress, parts_drawn in runs[1:]:
        assert torch.equal(parts_drawn, drawn)
        assert progress.losses == pytest.approx(whole_progress.losses, rel=1e-4)
        norms = [values["grad_norm"] for values in progress.values]
        expected = [values["grad_norm"] for values in whole_progress.values]
        assert norms == pytest.approx(expected, rel=1e-3)
        torch.testing.assert_close(state, whole, rtol=1e-3, atol=1e-4)


def test_more_parts_than_samples() -> None:
    with pytest.raises(ConfigError, match=r"accumulate 17 .* at most recipe.batch_size"):
        finetune(make_net(), make_recipe(accumulate=17))


class SpyNet(DiT):
    """Notes how it is run."""

    def __init__(self) -> None:
        super().__init__(8, 4, 1, 16, 3, 2, num_classes=10, learn_sigma=False)
        self.gradient_checkpointing = False
        self.seen: list[tuple[bool, bool, str]] = []

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        products = cast(Any, torch.backends).cuda.matmul.fp32_precision
        autocast = torch.is_autocast_enabled("cpu")
        self.seen.append((autocast, self.gradient_checkpointing, products))
        return super().forward(*args, **kwargs)


def test_bfloat16_runs_the_network_alone_in_autocast() -> None:
    net, progress, exact = SpyNet(), ListProgress(), ListProgress()
    trained = finetune(net, make_recipe(precision="bf16"), progress)
    assert net.seen == [(True, False, "ieee")] * 6
    assert {p.dtype for p in trained.parameters()} == {torch.float32}
    torch.manual_seed(0)
    finetune(SpyNet(), make_recipe(), exact)
    assert progress.losses == pytest.approx(exact.losses, rel=0.2)
    assert all(math.isfinite(loss) for loss in progress.losses)


def test_tf32_is_set_during_training_only() -> None:
    matmul = cast(Any, torch.backends).cuda.matmul
    before = matmul.fp32_precision
    net = SpyNet()
    finetune(net, make_recipe(num_steps=1, precision="tf32"))
    assert net.seen == [(False, False, "tf32")]
    assert matmul.fp32_precision == before
    with pytest.raises(ConfigError):
        finetune(SpyNet(), make_recipe(precision="tf32"), data=SpyData(labelled=False))
    assert matmul.fp32_precision == before


def test_gradient_checkpointing_is_on_during_training_only() -> None:
    net = SpyNet()
    trained = finetune(net, make_recipe(num_steps=2, gradient_checkpointing=True))
    assert [checkpointing for _, checkpointing, _ in net.seen] == [True, True]
    assert isinstance(trained, SpyNet)
    assert not net.gradient_checkpointing
    assert not trained.gradient_checkpointing
    plain = nn.Linear(1, 1)
    with (
        pytest.raises(ConfigError, match="'gradient_checkpointing', but Linear has none"),
        checkpointing(plain, enabled=True),
    ):
        pass


@pytest.mark.parametrize("make", [lambda: make_net(), lambda: make_uvit()], ids=["dit", "uvit"])
def test_gradient_checkpointing_changes_no_result(make: Callable[[], nn.Module]) -> None:
    plain, saving = (
        finetune(make(), make_recipe(num_steps=3, gradient_checkpointing=on, label_dropout=0.0))
        for on in (False, True)
    )
    torch.testing.assert_close(plain.state_dict(), saving.state_dict())


def test_time_embedder_of_a_uvit() -> None:
    net, start = make_uvit(mlp_time_embed=True), make_uvit(mlp_time_embed=True).state_dict()
    trained = finetune(net, make_recipe(freeze_time_embedder=True, label_dropout=0.0))
    names = changed(start, trained.state_dict())
    assert not any(name.startswith("time_embed") for name in names)
    assert any(name.startswith("in_blocks.0.") for name in names)
    with pytest.raises(ConfigError, match=r"nothing to freeze: 'time_embed' of this UViT"):
        finetune(make_uvit(), make_recipe(freeze_time_embedder=True, label_dropout=0.0))


def test_learning_rate() -> None:
    cosine = make_recipe(num_steps=4, lr=1.0, lr_schedule="cosine")
    expected = [1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)]
    assert [learning_rate(cosine, step) for step in range(4)] == pytest.approx(expected)
    assert learning_rate(make_recipe(lr=0.3), 5) == 0.3

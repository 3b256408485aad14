"""Fine-tunes of networks with and without labels, a learned variance, or a U-ViT's clock."""

from typing import Any

import pytest
import torch
from tiny_finetunes import (
    NO_LAMBDA,
    SCHEDULE,
    ListProgress,
    SpyData,
    changed,
    finetune,
    make_net,
    make_recipe,
    make_uvit,
)
from torch import Tensor, nn

from schedsearch.backbones.dit import DiT
from schedsearch.data.digits import load_digits
from schedsearch.diffusion.process import VPProcess
from schedsearch.exceptions import ConfigError


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


def test_time_embedder_of_a_uvit() -> None:
    net, start = make_uvit(mlp_time_embed=True), make_uvit(mlp_time_embed=True).state_dict()
    trained = finetune(net, make_recipe(freeze_time_embedder=True, label_dropout=0.0))
    names = changed(start, trained.state_dict())
    assert not any(name.startswith("time_embed") for name in names)
    assert any(name.startswith("in_blocks.0.") for name in names)
    with pytest.raises(ConfigError, match=r"nothing to freeze: 'time_embed' of this UViT"):
        finetune(make_uvit(), make_recipe(freeze_time_embedder=True, label_dropout=0.0))

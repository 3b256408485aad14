"""Losses over all exits, against their formulae."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_finetunes import PROCESS, make_net, make_recipe, make_uvit
from torch import Tensor, nn

from schedsearch.diffusion.flow import FlowProcess
from schedsearch.diffusion.losses import mse
from schedsearch.diffusion.process import VPProcess
from schedsearch.methods.exits.uncertainty import UncertaintyModule, WithUncertainty
from trainers.batches import Batch
from trainers.layerwise_losses import (
    LayerwiseLoss,
    layer_loss,
    layer_weights,
    module_loss,
    module_target,
)
from trainers.layerwise_options import LayerwiseOptions

L, N = 4, 6


@pytest.fixture
def errors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(N, 2, 3, 3, generator=generator, requires_grad=True) / (i + 1)
        for i in range(L)
    ]


def maps_of(value: float) -> list[Tensor]:
    return [torch.full((N, 2, 3, 3), value) for _ in range(L)]


# ---- closed forms -------------------------------------------------------------------------------


def test_weights_of_the_layers() -> None:
    assert layer_weights("mean", 4) == [0.25] * 4
    assert layer_weights("linear", 4) == [0.1, 0.2, 0.3, 0.4]
    assert sum(layer_weights("linear", 28)) == pytest.approx(1)
    assert layer_weights("ual", 4) == [0, 0, 0, 1]


def test_layer_loss_of_the_paper_at_its_ends(errors: list[Tensor]) -> None:
    squares = [error.square().flatten(1).mean(1) for error in errors]
    certain = layer_loss(maps_of(0.0), errors, "paper")
    torch.testing.assert_close(certain, sum(squares[:-1]))
    assert torch.equal(layer_loss(maps_of(1.0), errors, "paper"), torch.zeros(N))
    half = layer_loss(maps_of(0.5), errors, "paper")
    torch.testing.assert_close(half, certain / 2)
    assert torch.equal(layer_loss(maps_of(0.0)[:1], errors[:1], "paper"), torch.zeros(N))


def test_layer_loss_weights_every_pixel(errors: list[Tensor]) -> None:
    maps = [torch.rand(N, 2, 3, 3) for _ in range(L)]
    expected = torch.zeros(N)
    for i in range(L - 1):
        for n in range(N):
            expected[n] += ((1 - maps[i][n]) * errors[i][n] ** 2).mean()
    torch.testing.assert_close(layer_loss(maps, errors, "paper"), expected)


def test_module_loss_is_zero_at_its_target_alone(errors: list[Tensor]) -> None:
    maps = [error.detach().abs().tanh() for error in errors]
    assert torch.equal(module_loss(maps, errors, "paper"), torch.zeros(N))
    code = [1 - found for found in maps]
    assert torch.equal(module_loss(code, errors, "code"), torch.zeros(N))
    maps[2] = maps[2] + 0.1
    torch.testing.assert_close(module_loss(maps, errors, "paper"), torch.full((N,), 0.01))
    code[2] = code[2] + 0.1
    torch.testing.assert_close(module_loss(code, errors, "code"), torch.full((N,), 0.01 / L))


# ---- gradients ----------------------------------------------------------------------------------


def test_targets_have_no_gradient(errors: list[Tensor]) -> None:
    assert not module_target(errors[0], "paper").requires_grad
    assert not module_loss(maps_of(0.3), errors, "paper").requires_grad
    assert not module_loss(maps_of(0.3), errors, "code").requires_grad


def test_only_the_code_lets_the_layer_loss_move_the_module(errors: list[Tensor]) -> None:
    for variant, moves in (("paper", False), ("code", True)):
        maps = [found.requires_grad_() for found in maps_of(0.3)]
        loss = layer_loss(maps, errors, variant)  # type: ignore[arg-type]
        found = torch.autograd.grad(loss.sum(), maps, allow_unused=True, retain_graph=True)
        assert any(g is not None and bool(g.any()) for g in found) is moves


def objective(net: nn.Module, process: Any = PROCESS, **options: Any) -> LayerwiseLoss:
    return LayerwiseLoss(net, process, make_recipe(), LayerwiseOptions(**options))


def make_batch(n: int = 8, size: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(4)
    return Batch(
        torch.randn(n, 1, size, size, generator=generator),
        torch.randint(10, (n,), generator=generator),
        torch.randint(1000, (n,), generator=generator),
        torch.randn(n, 1, size, size, generator=generator),
    )


def judged(net: nn.Module, **options: Any) -> WithUncertainty:
    whole = WithUncertainty.of(net, **options)
    torch.manual_seed(1)
    for parameter in whole.uem.parameters():
        nn.init.normal_(parameter, std=0.3)
    return whole


def test_the_module_leaves_the_gradient_of_the_network_alone() -> None:
    """lambda has no influence on the network's gradient, only on that of the module."""
    gradients = []
    for factor in (1.0, 5.0):
        net = judged(make_net())
        loss = objective(net, weights="mean", uem="own", lambda_=factor)
        loss.losses(net, make_batch(), slice(0, 8))[0].sum().backward()
        own = [p.grad for p in net.net.parameters()]
        gradients.append((own, net.uem.weight.grad))
    for a, b in zip(gradients[0][0], gradients[1][0], strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.allclose(gradients[0][1], gradients[1][1])


# ---- whole objectives, written out --------------------------------------------------------------


def by_hand(
    net: WithUncertainty, batch: Batch, process: Any = PROCESS, exits: Any = "decoder"
) -> tuple[list[Tensor], list[Tensor]]:
    """Errors and maps of every exit, block by block."""
    x_t = process.q_sample(batch.x0, batch.t, batch.noise)
    target = process.target(batch.x0, batch.t, batch.noise)
    tokens = net.open(x_t, process.network_time(batch.t), batch.labels)
    uem: UncertaintyModule = net.uem
    first = 1 if exits == "all" else max(1, net.num_blocks - net.num_exit_blocks)
    errors, maps = [], []
    for block in range(net.num_blocks):
        tokens = net.run(tokens, block)
        if block + 1 >= first:
            errors.append(net.close(tokens, block + 1, exits)[:, :1] - target)
            maps.append(uem(tokens, block + 1 - first))
    return errors, maps


def test_the_paper() -> None:
    net, batch = judged(make_net()), make_batch()
    total, terms = objective(net, weights="ual", uem="own", lambda_=2.0, beta=0.5).losses(
        net, batch, slice(0, 8)
    )
    errors, maps = by_hand(net, batch)
    expected = errors[-1].square().mean((1, 2, 3))
    for error, found in zip(errors, maps, strict=True):
        expected = expected + 2 * (found - error.abs().tanh()).square().mean((1, 2, 3))
    for error, found in zip(errors[:-1], maps[:-1], strict=True):
        expected = expected + 0.5 * ((1 - found) * error**2).mean((1, 2, 3))
    torch.testing.assert_close(total, expected)
    assert set(terms) == {"mse", "layers", "uncertainty"}


@pytest.mark.parametrize("exits", ["decoder", "all"])
def test_the_code_for_one_sample(exits: Any) -> None:
    """mse + mean of L_u + sum of c_i mse_i / sum of c_j, on a U-ViT at continuous times."""
    process = VPProcess("v")
    net = judged(make_uvit(), variant="code", time=False, exits=exits)
    one = make_batch(1)
    batch = Batch(one.x0, one.labels, torch.tensor([300.0]), one.noise)
    loss = objective(net, process, weights="ual", uem="own", variant="code", exits=exits)
    with torch.no_grad():
        total, _ = loss.losses(net, batch, slice(0, 1))
        errors, maps = by_hand(net, batch, process, exits)
    assert len(errors) == (7 if exits == "all" else 4)
    certainty = [float(found.mean()) for found in maps]
    expected = float(errors[-1].square().mean())
    for error, found, c in zip(errors, maps, certainty, strict=True):
        target = 1 - torch.tanh(error.abs())
        expected += float((found - target).square().mean()) / len(errors)
        expected += c / sum(certainty) * float(error.square().mean())
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_the_code_weights_by_the_mean_over_the_batch() -> None:
    net, batch = judged(make_net(), variant="code", time=False), make_batch()
    loss = objective(net, weights="ual", uem="own", variant="code", lambda_=0.0)
    total, _ = loss.losses(net, batch, slice(0, 8))
    errors, maps = by_hand(net, batch)
    c = torch.stack([found.mean() for found in maps])
    layers = sum(
        weight * error.square().mean((1, 2, 3))
        for weight, error in zip(c / c.sum(), errors, strict=True)
    )
    torch.testing.assert_close(total, errors[-1].square().mean((1, 2, 3)) + layers)


@pytest.mark.parametrize("weights", ["mean", "linear"])
def test_berxit_and_calm(weights: Any) -> None:
    net, batch = judged(make_net(), shared=True, time=False), make_batch()
    total, _ = objective(net, weights=weights, uem="shared").losses(net, batch, slice(0, 8))
    errors, maps = by_hand(net, batch)
    squares = torch.stack([error.square().mean((1, 2, 3)) for error in errors])
    shares = torch.tensor([1, 1, 1.0] if weights == "mean" else [1, 2, 3.0])
    expected = (shares / shares.sum()) @ squares
    plain, _ = objective(make_net(), weights=weights).losses(make_net(), batch, slice(0, 8))
    torch.testing.assert_close(plain, expected)
    for error, found in zip(errors, maps, strict=True):
        expected = expected + (found - error.abs().tanh()).square().mean((1, 2, 3))
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("prediction", ["velocity", "x0", "eps"])
def test_flow_matching_trains_the_velocity_at_every_exit(prediction: Any) -> None:
    process = FlowProcess("sigma1000", prediction)
    net, batch = make_net(), replace(make_batch(), t=torch.linspace(60, 940, 8))
    total, _ = objective(net, process, weights="mean").losses(net, batch, slice(0, 8))
    x_t = process.q_sample(batch.x0, batch.t, batch.noise)
    expected = torch.zeros(8)
    for depth in (1, 2, 3):
        output = net(x_t, batch.t, batch.labels, exit_depth=depth)
        velocity = torch.cat(
            [
                process.velocity_from(output[i : i + 1], x_t[i : i + 1], float(batch.t[i]))
                for i in range(8)
            ]
        )
        expected += mse(velocity, batch.noise - batch.x0) / 3
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("weights", ["mean", "ual"])
def test_learned_variances_train_at_full_depth_alone(weights: Any) -> None:
    net, batch = judged(make_net(learn_sigma=True)), make_batch()
    loss = objective(net, weights=weights, uem="own", lambda_=0.0)
    total, terms = loss.losses(net, batch, slice(0, 8))
    errors, _ = by_hand(net, batch)
    assert errors[0].shape == batch.x0.shape
    x_t = PROCESS.q_sample(batch.x0, batch.t, batch.noise)
    full = net(x_t, PROCESS.network_time(batch.t), batch.labels, exit_depth=3)
    torch.testing.assert_close(terms["mse"], mse(full, batch.noise))
    if weights == "mean":
        layers = sum(error.square().mean((1, 2, 3)) / 3 for error in errors[:-1])
        torch.testing.assert_close(terms["layers"], layers)
    share = 1 / 3 if weights == "mean" else 1
    expected = share * terms["mse"] + terms["layers"] + terms["vlb"]
    torch.testing.assert_close(total, expected)
    assert terms["vlb"].abs().min() > 0


def test_odd_steps_can_train_full_depth_alone() -> None:
    net, batch = judged(make_net()), make_batch()
    loss = objective(net, weights="mean", uem="own", alternate=True)
    plain = objective(net, weights="mean", uem="own")
    for step in (1, 2, 3):
        loss.start_step(step, torch.zeros(8), torch.Generator())
        plain.start_step(step, torch.zeros(8), torch.Generator())
        total, terms = loss.losses(net, batch, slice(0, 8))
        if step == 2:
            assert torch.equal(total, plain.losses(net, batch, slice(0, 8))[0])
        else:
            assert torch.equal(total, terms["mse"])
            assert set(terms) == {"mse"}

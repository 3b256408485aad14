"""What every family of backbones owes: the rules of exits, times, precision and training."""

import itertools

import pytest
import torch
from small_models import FAMILIES, Family, make_inputs

pytestmark = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def depths_of(family: Family, *above_the_shallowest: int) -> torch.Tensor:
    """Exit depths of a batch, counted from the family's shallowest exit."""
    return torch.tensor(above_the_shallowest) + family.exits[0]


@pytest.mark.parametrize(
    "above",
    [
        [4, 0, 2, 2, 1, 4, 0, 3, 1],
        [4] * 9,
        [0] * 9,
        [0, 1, 2, 3, 4, 4, 3, 2, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 3],
    ],
)
def test_per_sample_exits_equal_running_everything(family: Family, above: list[int]) -> None:
    net = family.make().eval()
    x, t, y = make_inputs(net)
    assert y is not None
    exit_depth = depths_of(family, *above)
    with torch.no_grad():
        actual = net(x, t, y, exit_depth=exit_depth)
        expected = family.run_every_block_and_pick(net, x, t, y, exit_depth)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
        for i, depth in enumerate(exit_depth.tolist()):  # the sampling path, sample by sample
            alone = net(x[i : i + 1], t[i : i + 1], y[i : i + 1], exit_depth=depth)
            torch.testing.assert_close(actual[i : i + 1], alone, rtol=1e-5, atol=1e-5)
    assert actual.std() > 0.01


def test_per_sample_exits_are_bit_identical_at_training_size(family: Family) -> None:
    """A trained network's shape on its usual batch: not a digit differs on the CPU."""
    net = family.make(**family.training_size).eval()
    x, t, y = make_inputs(net, 128)
    exit_depth = torch.tensor(family.schedule)[(t / 100).long()]
    with torch.no_grad():
        actual = net(x, t, y, exit_depth=exit_depth)
        assert torch.equal(actual, family.run_every_block_and_pick(net, x, t, y, exit_depth))
        for depth in set(family.schedule):  # and the batch path, on the samples of one depth
            whole = net(x, t, y, exit_depth=depth)
            assert torch.equal(actual[exit_depth == depth], whole[exit_depth == depth])


def test_one_depth_for_all_is_the_integer_path_bit_for_bit(family: Family) -> None:
    net = family.make().eval()
    x, t, y = make_inputs(net)
    with torch.no_grad():
        for depth in family.exits:
            as_tensor = net(x, t, y, exit_depth=torch.full((9,), depth))
            assert torch.equal(as_tensor, net(x, t, y, exit_depth=depth))


def test_blocks_run_whole_only_on_samples_that_are_alive(family: Family) -> None:
    net = family.make().eval()
    seen: list[int] = []
    for block in net.get_submodule(family.blocks).children():
        block.attn.register_forward_hook(lambda _, inputs, _out: seen.append(len(inputs[0])))
    x, t, y = make_inputs(net)
    net(x, t, y, exit_depth=depths_of(family, 3, 0, 2, 2, 1, 3, 0, 3, 1))
    below = [9] * family.exits[0]  # a DiT's first block runs for everybody
    assert seen == [*below, 7, 5, 3]
    seen.clear()
    net(x, t, y, exit_depth=family.exits[2])
    assert seen == [*below, 9, 9]


def test_depth_changes_the_output(family: Family) -> None:
    net = family.make().eval()
    x, t, y = make_inputs(net)
    with torch.no_grad():
        outputs = [net(x, t, y, exit_depth=depth) for depth in family.exits]
    for shallow, deep in itertools.pairwise(outputs):
        assert (shallow - deep).abs().max() > 1e-3


@pytest.mark.parametrize("above", [-2, -1, 5])
def test_depth_outside_the_network_is_refused(family: Family, above: int) -> None:
    net = family.make()
    x, t, y = make_inputs(net)
    depth = family.exits[0] + above
    message = rf"{family.exits[0]}\.\.{family.exits[-1]} for this model, got {depth}\."
    with pytest.raises(ValueError, match=message):
        net(x, t, y, exit_depth=depth)
    with pytest.raises(ValueError, match=message):
        net(x, t, y, exit_depth=torch.tensor([1] * 8 + [depth]))


def test_one_depth_per_sample_or_one_for_all(family: Family) -> None:
    net = family.make()
    x, t, y = make_inputs(net)
    with pytest.raises(ValueError, match=r"one integer per sample, shape \(9,\)"):
        net(x, t, y, exit_depth=torch.tensor([1, 2]))


def test_integer_times_are_floats_and_fractions_count(family: Family) -> None:
    net = family.make().eval()
    x, _, y = make_inputs(net)
    whole = torch.arange(9) * 100
    with torch.no_grad():
        from_ints = net(x, whole, y, exit_depth=2)
        assert torch.equal(from_ints, net(x, whole.float(), y, exit_depth=2))
        assert torch.equal(from_ints, net(x, whole.double(), y, exit_depth=2))
        assert (net(x, whole + 0.5, y, exit_depth=2) - from_ints).abs().max() > 1e-4


def test_autocast_and_bfloat16_stay_close(family: Family) -> None:
    net = family.make().eval()
    x, t, y = make_inputs(net)
    with torch.no_grad():
        full = net(x, t, y, exit_depth=3)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = net(x, t, y, exit_depth=torch.tensor([3] * 8 + [2]))[:8]
        half = net.bfloat16()(x.bfloat16(), t, y, exit_depth=3)
    assert half.dtype == torch.bfloat16
    for rough, exact in ((mixed, full[:8]), (half, full)):
        assert (rough.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


# ---- training ---------------------------------------------------------------------------------


def test_gradients_equal_running_everything(family: Family) -> None:
    net = family.make()
    x, t, y = make_inputs(net)
    exit_depth = depths_of(family, 3, 0, 2, 2, 1, 3, 0, 3, 1)  # the last block runs for nobody
    output = net(x, t, y, exit_depth=exit_depth)
    target = torch.randn(output.shape, generator=torch.Generator().manual_seed(2))
    (output - target).square().mean().backward()
    ours = {name: p.grad for name, p in net.named_parameters()}
    net.zero_grad(set_to_none=True)
    picked = family.run_every_block_and_pick(net, x, t, y, exit_depth)
    (picked - target).square().mean().backward()
    unused = set()
    for name, parameter in net.named_parameters():
        if ours[name] is None:
            unused.add(name)
        else:
            torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6)
    last = f"{family.blocks}.{net.num_exit_blocks - 1}."
    in_the_last = {name for name, _ in net.named_parameters() if name.startswith(last)}
    # Untouched by the optimizer. A U-ViT's long skip is taken in at every exit.
    assert unused == {name for name in in_the_last if "skip_linear" not in name}


def test_gradient_checkpointing_changes_nothing_but_memory(family: Family) -> None:
    net = family.make().train()
    assert not net.gradient_checkpointing
    x, t, y = make_inputs(net)
    exit_depth = depths_of(family, 3, 0, 2, 2, 1, 3, 0, 3, 1)
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    # Before the forward pass, because a recomputation may end early.
    net.get_submodule(family.always).register_forward_pre_hook(count)
    results = []
    for enabled, expected_runs in ((True, 2), (False, 1)):
        net.gradient_checkpointing, runs = enabled, 0
        net.zero_grad(set_to_none=True)
        output = net(x, t, y, exit_depth=exit_depth)
        output.square().mean().backward()
        results.append((output.detach(), [p.grad for p in net.parameters()]))
        assert runs == expected_runs
    (output, gradients), (plain_output, plain_gradients) = results
    assert torch.equal(output, plain_output)
    for gradient, plain in zip(gradients, plain_gradients, strict=True):
        assert (gradient is None) == (plain is None)
        assert gradient is None or torch.equal(gradient, plain)
    net.gradient_checkpointing, runs = True, 0
    net.eval()(x, t, y, exit_depth=1).square().mean().backward()
    assert runs == 1  # only training recomputes

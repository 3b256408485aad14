"""U-ViT against its equations written out, and its exits."""

import itertools
import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from schedsearch.backbones.guidance import learns_variance, null_label_of
from schedsearch.backbones.uvit import UViT

DECODER = 4
SMALL = {
    "img_size": 8,
    "patch_size": 2,
    "in_chans": 3,
    "embed_dim": 24,
    "depth": 2 * DECODER,
    "num_heads": 4,
}


def make_uvit(**overrides: object) -> UViT:
    """A small U-ViT with random weights everywhere, norms and biases included."""
    torch.manual_seed(0)
    net = UViT(**{**SMALL, **overrides})
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.normal_(std=0.15)
            if "norm" in name and name.endswith("weight"):
                parameter += 1
    return net


def make_inputs(net: UViT, n: int = 9) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, *net.in_shape, generator=generator)
    t = 999 * torch.rand(n, generator=generator)
    y = None
    if net.num_classes is not None:
        rows = net.num_classes + (net.null_label is not None)
        y = torch.randint(rows, (n,), generator=generator)
    return x, t, y


def equations(
    w: Mapping[str, Tensor],
    x: Tensor,
    t: float,
    y: int | None,
    *,
    exit_depth: int,
    heads: int = 4,
    scale: float | None = None,
) -> Tensor:
    """U-ViT (Bao et al. 2023, Fig. 1 and Sec. 3) for one image in float64, from plain tensors.

    The kind of network is read off the names in ``w``. Only the sines are float32, as in the
    code that the released weights were trained with.
    """
    w = {name: value.double() for name, value in w.items()}
    kernel = w["patch_embed.proj.weight"]
    width, channels, P, _ = kernel.shape
    side = x.shape[1] // P
    num_decoder = len({name.split(".")[1] for name in w if name.startswith("out_blocks.")})

    def linear(v: Tensor, name: str) -> Tensor:
        return v @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.tensor(0.0))

    def layer_norm(v: Tensor, name: str) -> Tensor:
        centred = v - v.mean(-1, keepdim=True)
        unit = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return unit * w[f"{name}.weight"] + w[f"{name}.bias"]

    def transform(v: Tensor, name: str) -> Tensor:
        q, k, values = linear(layer_norm(v, f"{name}.norm1"), f"{name}.attn.qkv").chunk(3, -1)
        d = width // heads
        mixed = []
        for h in range(heads):
            part = slice(h * d, (h + 1) * d)
            logits = q[:, part] @ k[:, part].T * (d**-0.5 if scale is None else scale)
            weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
            mixed.append(weights @ values[:, part])
        v = v + linear(torch.cat(mixed, -1), f"{name}.attn.proj")
        hidden = linear(layer_norm(v, f"{name}.norm2"), f"{name}.mlp.fc1")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        return v + linear(hidden, f"{name}.mlp.fc2")

    half = width // 2
    steps = torch.arange(half, dtype=torch.float32)
    angles = torch.tensor(t, dtype=torch.float32) * torch.exp(-math.log(10_000) * steps / half)
    time = torch.cat([angles.cos(), angles.sin()]).double()
    if "time_embed.0.weight" in w:
        hidden = linear(time, "time_embed.0")
        time = linear(hidden / (1 + torch.exp(-hidden)), "time_embed.2")
    rows = [time] if y is None else [w["label_emb.weight"][y], time]
    for i, j in itertools.product(range(side), range(side)):
        patch = x[:, P * i : P * (i + 1), P * j : P * (j + 1)].double()
        rows.append((kernel * patch).sum((1, 2, 3)) + w["patch_embed.proj.bias"])
    v = torch.stack(rows) + w["pos_embed"][0]

    skips = []
    for n in range(num_decoder):
        v = transform(v, f"in_blocks.{n}")
        skips.append(v)
    v = transform(v, "mid_block")
    for n in range(num_decoder):
        if f"out_blocks.{n}.skip_linear.weight" in w:
            v = linear(torch.cat([v, skips[-1 - n]], -1), f"out_blocks.{n}.skip_linear")
        if n < exit_depth:
            v = transform(v, f"out_blocks.{n}")
    pixels = linear(layer_norm(v, "norm"), "decoder_pred")[len(rows) - side * side :]
    image = torch.zeros(channels, x.shape[1], x.shape[2], dtype=torch.float64)
    for i, j in itertools.product(range(side), range(side)):
        patch = pixels[side * i + j].reshape(P, P, channels).permute(2, 0, 1)
        image[:, P * i : P * (i + 1), P * j : P * (j + 1)] = patch
    if "final_layer.weight" not in w:
        return image
    padded = torch.zeros(channels, x.shape[1] + 2, x.shape[2] + 2, dtype=torch.float64)
    padded[:, 1:-1, 1:-1] = image
    out = w["final_layer.bias"][:, None, None].expand(channels, *x.shape[1:]).clone()
    for a, b in itertools.product(range(3), range(3)):
        window = padded[:, a : a + x.shape[1], b : b + x.shape[2]]
        out += torch.einsum("oc,chw->ohw", w["final_layer.weight"][:, :, a, b], window)
    return out


@pytest.mark.parametrize("exit_depth", [DECODER, 2, 0])
@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"mlp_time_embed": True},
        {"conv": False},
        {"num_classes": 5},
        {"num_classes": 6, "null_class": True, "conv": False, "in_chans": 4},
        {"skip": False},
        {"qkv_bias": True, "mlp_ratio": 2.5, "depth": 2 * DECODER + 1},
        {"qk_scale": 0.1, "patch_size": 4, "img_size": 12},
    ],
    ids=lambda overrides: "-".join(overrides) or "plain",
)
def test_against_the_equations(overrides: dict[str, object], exit_depth: int) -> None:
    net = make_uvit(**overrides).eval()
    x, t, y = make_inputs(net, 2)
    scale = overrides.get("qk_scale")
    expected = torch.stack(
        [
            equations(
                net.state_dict(),
                x[i],
                float(t[i]),
                None if y is None else int(y[i]),
                exit_depth=exit_depth,
                scale=None if scale is None else float(str(scale)),
            )
            for i in range(2)
        ]
    )
    size = expected.abs().max()
    assert expected.std() > 0.05
    with torch.no_grad():
        single = net(x, t, y, exit_depth=exit_depth)
        double = net.double()(x.double(), t, y, exit_depth=exit_depth)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert (single - expected).abs().max() <= 1e-5 * size
    assert (double - expected).abs().max() <= 1e-10 * size


def test_official_names_and_shapes_of_the_cifar10_model() -> None:
    with torch.device("meta"):
        net = UViT(img_size=32, patch_size=2, embed_dim=512, depth=12, num_heads=8)
    expected: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, 1 + 256, 512),
        "patch_embed.proj.weight": (512, 3, 2, 2),
        "patch_embed.proj.bias": (512,),
        "norm.weight": (512,),
        "norm.bias": (512,),
        "decoder_pred.weight": (12, 512),
        "decoder_pred.bias": (12,),
        "final_layer.weight": (3, 3, 3, 3),
        "final_layer.bias": (3,),
    }
    blocks = [f"{half}_blocks.{n}" for half in ("in", "out") for n in range(6)]
    for block in [*blocks, "mid_block"]:
        expected[f"{block}.attn.qkv.weight"] = (1536, 512)
        expected[f"{block}.attn.proj.weight"] = (512, 512)
        expected[f"{block}.mlp.fc1.weight"] = (2048, 512)
        expected[f"{block}.mlp.fc1.bias"] = (2048,)
        expected[f"{block}.mlp.fc2.weight"] = (512, 2048)
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            expected[f"{block}.{name}"] = (512,)
        for name in ("attn.proj.bias", "mlp.fc2.bias"):
            expected[f"{block}.{name}"] = (512,)
        if block.startswith("out"):
            expected[f"{block}.skip_linear.weight"] = (512, 1024)
            expected[f"{block}.skip_linear.bias"] = (512,)
    assert {name: tuple(value.shape) for name, value in net.state_dict().items()} == expected


def test_names_of_the_other_variants() -> None:
    plain = set(make_uvit().state_dict())
    assert set(make_uvit(num_classes=5).state_dict()) - plain == {"label_emb.weight"}
    assert make_uvit(num_classes=5).pos_embed.shape == (1, 18, 24)
    assert set(make_uvit(mlp_time_embed=True).state_dict()) - plain == {
        f"time_embed.{i}.{p}" for i in (0, 2) for p in ("weight", "bias")
    }
    without_conv = set(make_uvit(conv=False).state_dict())
    assert plain - without_conv == {"final_layer.weight", "final_layer.bias"}
    without_skip = set(make_uvit(skip=False).state_dict())
    assert plain - without_skip == {
        f"out_blocks.{n}.skip_linear.{p}" for n in range(DECODER) for p in ("weight", "bias")
    }
    with_bias = set(make_uvit(qkv_bias=True).state_dict())
    assert len(with_bias - plain) == 2 * DECODER + 1


@pytest.mark.parametrize(
    ("millions", "arguments"),
    [  # U-ViT, Table 1; S is the CIFAR-10 model, M the ImageNet-64 one, L and H take latents
        (44, {"img_size": 32, "in_chans": 3, "embed_dim": 512, "depth": 12, "num_heads": 8}),
        (131, {"img_size": 64, "patch_size": 4, "in_chans": 3, "embed_dim": 768, "depth": 16,
               "num_classes": 1000}),
        (287, {"embed_dim": 1024, "depth": 20, "num_heads": 16}),
        (501, {"embed_dim": 1152, "depth": 28, "num_heads": 16, "conv": False}),
    ],
)  # fmt: skip
def test_published_numbers_of_parameters(millions: int, arguments: dict[str, int]) -> None:
    latents = {"img_size": 32, "patch_size": 2, "in_chans": 4, "num_classes": 1001}
    if arguments.get("in_chans") == 3:
        latents["num_classes"] = -1
    with torch.device("meta"):
        net = UViT(**{**latents, **arguments})
    counted = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    assert abs(counted - millions) < 0.8  # the paper cuts 44.25 and rounds the others


def test_what_the_rows_of_the_labels_mean() -> None:
    meanings = {}
    for rows, null_class in [(-1, False), (10, False), (11, True)]:
        net = make_uvit(num_classes=rows, null_class=null_class)
        meanings[rows] = net.num_classes, null_label_of(net)
    assert meanings == {-1: (None, None), 10: (10, None), 11: (10, 10)}
    assert not learns_variance(net)
    assert (net.num_exit_blocks, net.in_shape) == (DECODER, (3, 8, 8))


def test_labels_must_fit_the_model() -> None:
    conditional, plain = make_uvit(num_classes=6, null_class=True), make_uvit()
    x, t, y = make_inputs(conditional)
    with pytest.raises(ValueError, match="5 classes and needs labels y; the last row"):
        conditional(x, t, None, exit_depth=1)
    with pytest.raises(ValueError, match="unconditional and takes no labels"):
        plain(x, t, y, exit_depth=1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"patch_size": 3}, "patch_size=3 must divide img_size=8"),
        ({"num_heads": 5}, "num_heads=5 must divide embed_dim=24"),
        ({"depth": 1}, "depth >= 2"),
        ({"null_class": True}, "num_classes >= 2, got -1"),
        ({"null_class": True, "num_classes": 1}, "num_classes >= 2, got 1"),
    ],
)
def test_arguments_that_do_not_fit(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_uvit(**overrides)


# ---- exits ------------------------------------------------------------------------------------


def run_every_block_and_pick(
    net: UViT, x: Tensor, t: Tensor, y: Tensor | None, depths: Tensor
) -> Tensor:
    """Run the whole batch at each depth with plain loops, then pick each sample's own."""
    images = []
    for depth in range(net.num_exit_blocks + 1):
        tokens, skips = net._tokens(x, t, y), []
        for block in net.in_blocks:
            tokens = block(tokens)
            skips.append(tokens)
        tokens = net.mid_block(tokens)
        for n, block in enumerate(net.out_blocks):
            tokens = block.skip_linear(torch.cat([tokens, skips[-1 - n]], -1))
            if n < depth:
                tokens = tokens + block.attn(block.norm1(tokens))
                tokens = tokens + block.mlp(block.norm2(tokens))
        pixels = net.decoder_pred(net.norm(tokens))[:, net.num_extras :]
        side, P = net.in_shape[1] // net.patch_size, net.patch_size
        grid = pixels.reshape(len(x), side, side, P, P, -1).permute(0, 5, 1, 3, 2, 4)
        images.append(net.final_layer(grid.reshape(x.shape)))
    return torch.stack(images)[depths, torch.arange(len(x))]


@pytest.mark.parametrize(
    "depths",
    [
        [4, 0, 2, 2, 1, 4, 0, 3, 1],
        [4] * 9,
        [0] * 9,
        [0, 1, 2, 3, 4, 4, 3, 2, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 3],
    ],
)
def test_per_sample_exits_equal_running_everything(depths: list[int]) -> None:
    net = make_uvit(num_classes=5).eval()
    x, t, y = make_inputs(net)
    assert y is not None
    exit_depth = torch.tensor(depths)
    with torch.no_grad():
        actual = net(x, t, y, exit_depth=exit_depth)
        expected = run_every_block_and_pick(net, x, t, y, exit_depth)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
        for i, depth in enumerate(depths):  # the sampling path, sample by sample
            alone = net(x[i : i + 1], t[i : i + 1], y[i : i + 1], exit_depth=depth)
            torch.testing.assert_close(actual[i : i + 1], alone, rtol=1e-5, atol=1e-5)


def test_per_sample_exits_are_bit_identical_at_training_size() -> None:
    net = make_uvit(embed_dim=64, depth=12).eval()
    x, t, y = make_inputs(net, 128)
    schedule = torch.tensor((6, 6, 4, 4, 2, 2, 2, 2, 1, 1))  # D1-U-ViT
    exit_depth = schedule[(t / 999 * 10).long()]
    with torch.no_grad():
        actual = net(x, t, y, exit_depth=exit_depth)
        assert torch.equal(actual, run_every_block_and_pick(net, x, t, y, exit_depth))
        for depth in (6, 4, 2, 1):  # and the batch path, on the samples of one depth
            whole = net(x, t, y, exit_depth=depth)
            assert torch.equal(actual[exit_depth == depth], whole[exit_depth == depth])


def test_one_depth_for_all_is_the_integer_path_bit_for_bit() -> None:
    net = make_uvit().eval()
    x, t, y = make_inputs(net)
    with torch.no_grad():
        for depth in range(DECODER + 1):
            as_tensor = net(x, t, y, exit_depth=torch.full((9,), depth))
            assert torch.equal(as_tensor, net(x, t, y, exit_depth=depth))


def test_integer_times_are_floats_and_fractions_count() -> None:
    net = make_uvit().eval()
    x, _, y = make_inputs(net)
    whole = torch.arange(9) * 100
    with torch.no_grad():
        from_ints = net(x, whole, y, exit_depth=2)
        assert torch.equal(from_ints, net(x, whole.float(), y, exit_depth=2))
        assert torch.equal(from_ints, net(x, whole.double(), y, exit_depth=2))
        assert (net(x, whole + 0.5, y, exit_depth=2) - from_ints).abs().max() > 1e-3


def test_blocks_run_whole_only_on_samples_that_are_alive() -> None:
    net = make_uvit().eval()
    seen: dict[str, list[int]] = {"attn": [], "skip_linear": []}
    for block in net.out_blocks:
        for name, runs in seen.items():
            block.get_submodule(name).register_forward_hook(
                lambda _module, inputs, _out, runs=runs: runs.append(len(inputs[0]))
            )
    x, t, y = make_inputs(net)
    net(x, t, y, exit_depth=torch.tensor([3, 1, 0, 3, 2, 3, 1, 0, 2]))
    assert seen == {"attn": [7, 5, 3], "skip_linear": [9] * DECODER}
    seen["attn"].clear()
    net(x, t, y, exit_depth=1)
    assert seen["attn"] == [9]


def test_gradients_equal_running_everything() -> None:
    net = make_uvit(num_classes=5)
    x, t, y = make_inputs(net)
    exit_depth = torch.tensor([3, 1, 2, 2, 0, 3, 1, 3, 2])  # decoder block 3 runs for nobody
    target = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    (net(x, t, y, exit_depth=exit_depth) - target).square().mean().backward()
    ours = {name: p.grad for name, p in net.named_parameters()}
    net.zero_grad(set_to_none=True)
    picked = run_every_block_and_pick(net, x, t, y, exit_depth)
    (picked - target).square().mean().backward()
    for name, parameter in net.named_parameters():
        if name.startswith("out_blocks.3.") and "skip_linear" not in name:
            assert ours[name] is None  # untouched by the optimizer
        else:
            torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6)
    assert ours["out_blocks.3.skip_linear.weight"] is not None


def test_depth_changes_the_output() -> None:
    for net in (make_uvit().eval(), make_uvit(skip=False).eval()):
        x, t, y = make_inputs(net)
        with torch.no_grad():
            outputs = [net(x, t, y, exit_depth=depth) for depth in range(DECODER + 1)]
        for shallow, deep in itertools.pairwise(outputs):
            assert (shallow - deep).abs().max() > 1e-3


@pytest.mark.parametrize("depth", [-1, DECODER + 1])
def test_depth_outside_the_decoder_is_refused(depth: int) -> None:
    net = make_uvit()
    x, t, y = make_inputs(net)
    with pytest.raises(ValueError, match=rf"0\.\.{DECODER}.*got {depth}"):
        net(x, t, y, exit_depth=depth)
    with pytest.raises(ValueError, match=rf"0\.\.{DECODER}.*got {depth}"):
        net(x, t, y, exit_depth=torch.tensor([1] * 8 + [depth]))


# ---- training ---------------------------------------------------------------------------------


def test_gradient_checkpointing_changes_nothing_but_memory() -> None:
    net = make_uvit(num_classes=5, use_checkpoint=True).train()
    assert net.gradient_checkpointing
    x, t, y = make_inputs(net)
    exit_depth = torch.tensor([4, 0, 2, 2, 1, 4, 0, 3, 1])
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    net.mid_block.register_forward_pre_hook(count)  # a recomputation may end early
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


def test_autocast_and_bfloat16_stay_close() -> None:
    net = make_uvit(num_classes=5).eval()
    x, t, y = make_inputs(net)
    with torch.no_grad():
        full = net(x, t, y, exit_depth=3)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = net(x, t, y, exit_depth=torch.tensor([3] * 8 + [2]))[:8]
        half = net.bfloat16()(x.bfloat16(), t, y, exit_depth=3)
    assert half.dtype == torch.bfloat16
    for rough, exact in ((mixed, full[:8]), (half, full)):
        assert (rough.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_initial_weights_are_the_official_distributions() -> None:
    torch.manual_seed(0)
    net = UViT(img_size=32, patch_size=2, embed_dim=128, depth=2, num_heads=4, num_classes=500)
    for parameter in (net.pos_embed, net.mid_block.mlp.fc1.weight, net.decoder_pred.weight):
        assert abs(float(parameter.detach().std()) - 0.02) < 0.002
    assert abs(float(net.label_emb.weight.detach().std()) - 1) < 0.02
    assert all(
        not module.bias.any()
        for module in net.modules()
        if isinstance(module, nn.Linear) and module.bias is not None
    )

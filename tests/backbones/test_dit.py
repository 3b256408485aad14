import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.layers import unpatchify
from schedsearch.backbones.registry import build_backbone
from schedsearch.settings import BackboneSettings

DEPTH = 5


def make_dit(**overrides: object) -> DiT:
    """A small DiT without the zeros of its initialisation, under which blocks do nothing."""
    config = {
        "input_size": 8,
        "patch_size": 2,
        "in_channels": 2,
        "hidden_size": 32,
        "depth": DEPTH,
        "num_heads": 4,
        "num_classes": 7,
        "learn_sigma": True,
    }
    torch.manual_seed(0)
    net = DiT(**{**config, **overrides})
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net


def make_inputs(net: DiT, n: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, *net.in_shape, generator=generator)
    t = torch.randint(1000, (n,), generator=generator)
    y = torch.randint(8, (n,), generator=generator)
    return x, t, y


def run_every_block_and_pick(
    net: DiT, x: Tensor, t: Tensor, y: Tensor, exit_depth: Tensor
) -> Tensor:
    """The plain way: all blocks for all samples, then each sample's own depth."""
    tokens = net.x_embedder(x) + net.pos_embed
    c = net.t_embedder(t) + net.y_embedder(y)
    after = []
    for block in net.blocks:
        tokens = block(tokens, c)
        after.append(tokens)
    picked = torch.stack(after)[exit_depth - 1, torch.arange(len(x))]
    return unpatchify(net.final_layer(picked, c), net.patch_size, net.out_channels)


def test_official_key_names() -> None:
    net = make_dit(depth=2)
    expected = {"pos_embed", "x_embedder.proj.weight", "x_embedder.proj.bias"}
    expected |= {f"t_embedder.mlp.{i}.{p}" for i in (0, 2) for p in ("weight", "bias")}
    expected |= {"y_embedder.embedding_table.weight"}
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1")
    expected |= {
        f"blocks.{n}.{layer}.{p}" for n in (0, 1) for layer in layers for p in ("weight", "bias")
    }
    expected |= {
        f"final_layer.{layer}.{p}"
        for layer in ("linear", "adaLN_modulation.1")
        for p in ("weight", "bias")
    }
    state = net.state_dict()
    assert set(state) == expected
    assert state["pos_embed"].shape == (1, 16, 32)
    assert len(state["y_embedder.embedding_table.weight"]) == 8
    without_null = make_dit(class_dropout_prob=0.0)
    assert len(without_null.state_dict()["y_embedder.embedding_table.weight"]) == 7
    assert (net.null_label, without_null.null_label) == (7, None)


@pytest.mark.parametrize(
    ("size", "millions"), [("S", 33), ("B", 130), ("L", 458), ("XL", 675)]
)  # DiT, Table 4
def test_published_numbers_of_parameters(size: str, millions: int) -> None:
    with torch.device("meta"):
        net = build_backbone(BackboneSettings(name=f"DiT-{size}/2"))
    trained = sum(parameter.numel() for parameter in net.parameters())
    assert abs(trained / 1e6 - millions) < 0.6


def test_untrained_model_predicts_zero() -> None:
    net = DiT(8, 2, 1, 16, 3, 2, num_classes=3, learn_sigma=False)
    x, t, y = torch.randn(2, 1, 8, 8), torch.tensor([0, 999]), torch.tensor([0, 3])
    assert net(x, t, y, exit_depth=3).abs().max() == 0  # adaLN-zero


def test_against_straight_line_float64() -> None:
    """Formulas of the paper, written out for one sample without any of our modules."""
    net = make_dit().double()
    x, t, y = make_inputs(net, 1)
    w, depth, width = net.state_dict(), 3, 32

    def layer_norm(v: Tensor) -> Tensor:
        centred = v - v.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def linear(v: Tensor, name: str) -> Tensor:
        return v @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def silu(v: Tensor) -> Tensor:
        return v / (1 + torch.exp(-v))

    tokens = torch.zeros(16, width, dtype=torch.float64)
    for row in range(4):
        for column in range(4):
            patch = x[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].double()
            kernel = w["x_embedder.proj.weight"]
            value = (kernel * patch).sum((1, 2, 3)) + w["x_embedder.proj.bias"]
            omega = [10_000 ** (-i / 8) for i in range(8)]
            position = [math.sin(column * o) for o in omega] + [
                math.cos(column * o) for o in omega
            ]
            position += [math.sin(row * o) for o in omega] + [math.cos(row * o) for o in omega]
            tokens[4 * row + column] = value + torch.tensor(position, dtype=torch.float64)
    frequency = [math.exp(-math.log(10_000) * i / 128) for i in range(128)]
    features = [math.cos(float(t) * f) for f in frequency]
    features += [math.sin(float(t) * f) for f in frequency]
    time = silu(linear(torch.tensor(features, dtype=torch.float64), "t_embedder.mlp.0"))
    c = linear(time, "t_embedder.mlp.2") + w["y_embedder.embedding_table.weight"][y[0]]
    for n in range(depth):
        modulation = linear(silu(c), f"blocks.{n}.adaLN_modulation.1").chunk(6)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation
        h = layer_norm(tokens) * (1 + scale_a) + shift_a
        q, k, v = linear(h, f"blocks.{n}.attn.qkv").reshape(16, 3, 4, 8).permute(1, 2, 0, 3)
        attention = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(8), -1) @ v
        attention = linear(attention.permute(1, 0, 2).reshape(16, width), f"blocks.{n}.attn.proj")
        tokens = tokens + gate_a * attention
        h = linear(layer_norm(tokens) * (1 + scale_m) + shift_m, f"blocks.{n}.mlp.fc1")
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        tokens = tokens + gate_m * linear(h, f"blocks.{n}.mlp.fc2")
    shift, scale = linear(silu(c), "final_layer.adaLN_modulation.1").chunk(2)
    pixels = linear(layer_norm(tokens) * (1 + scale) + shift, "final_layer.linear")
    expected = torch.zeros(4, 8, 8, dtype=torch.float64)
    for row in range(4):
        for column in range(4):
            patch = pixels[4 * row + column].reshape(2, 2, 4).permute(2, 0, 1)
            expected[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = patch

    actual = net(x.double(), t, y, exit_depth=depth)[0]
    assert actual.shape == (4, 8, 8)
    # The sines and the position embedding are float32 by design.
    assert (actual - expected).abs().max() < 1e-4 * expected.abs().max()


def test_parity_with_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    net = make_dit(in_channels=4, num_classes=1000).eval()
    other = diffusers.DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=DEPTH,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=1000,
        norm_eps=1e-6,
    ).eval()
    ours = net.state_dict()
    theirs = {"pos_embed.proj." + p: ours["x_embedder.proj." + p] for p in ("weight", "bias")}
    for n in range(DEPTH):
        source, target = f"blocks.{n}.", f"transformer_blocks.{n}."
        renamed = {
            "norm1.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
            "norm1.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
            "norm1.linear": source + "adaLN_modulation.1",
            "attn1.to_out.0": source + "attn.proj",
            "ff.net.0.proj": source + "mlp.fc1",
            "ff.net.2": source + "mlp.fc2",
        }
        for p in ("weight", "bias"):
            theirs |= {f"{target}{a}.{p}": ours[f"{b}.{p}"] for a, b in renamed.items()}
            qkv = ours[f"{source}attn.qkv.{p}"].chunk(3)
            theirs |= {f"{target}attn1.to_{k}.{p}": v for k, v in zip("qkv", qkv, strict=True)}
        table = "norm1.emb.class_embedder.embedding_table.weight"
        theirs[target + table] = ours["y_embedder.embedding_table.weight"]
    for p in ("weight", "bias"):
        theirs[f"proj_out_1.{p}"] = ours[f"final_layer.adaLN_modulation.1.{p}"]
        theirs[f"proj_out_2.{p}"] = ours[f"final_layer.linear.{p}"]
    missing, unexpected = other.load_state_dict(theirs, strict=False)
    assert (unexpected, missing) in (([], []), ([], ["pos_embed.pos_embed"]))
    for block in other.transformer_blocks:  # diffusers spaces the frequencies otherwise
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    x, t, y = make_inputs(net)
    with torch.no_grad():
        expected = other(x, timestep=t, class_labels=y).sample
        torch.testing.assert_close(net(x, t, y, exit_depth=DEPTH), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "depths",
    [
        [5, 1, 3, 3, 2, 5, 1, 4, 2],
        [5] * 9,
        [1] * 9,
        [1, 2, 3, 4, 5, 5, 4, 3, 2],
        [2, 2, 2, 2, 2, 2, 2, 2, 4],
    ],
)
def test_per_sample_exits_equal_running_everything(depths: list[int]) -> None:
    net = make_dit().eval()
    x, t, y = make_inputs(net)
    exit_depth = torch.tensor(depths)
    with torch.no_grad():
        actual = net(x, t, y, exit_depth=exit_depth)
        expected = run_every_block_and_pick(net, x, t, y, exit_depth)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
        for i, depth in enumerate(depths):  # the sampling path, sample by sample
            alone = net(x[i : i + 1], t[i : i + 1], y[i : i + 1], exit_depth=depth)
            torch.testing.assert_close(actual[i : i + 1], alone, rtol=1e-5, atol=1e-5)
    assert actual.std() > 0.01


def test_one_depth_for_all_is_the_integer_path_bit_for_bit() -> None:
    net = make_dit().eval()
    x, t, y = make_inputs(net)
    with torch.no_grad():
        for depth in range(1, DEPTH + 1):
            as_tensor = net(x, t, y, exit_depth=torch.full((9,), depth))
            assert torch.equal(as_tensor, net(x, t, y, exit_depth=depth))


def test_gradients_equal_running_everything() -> None:
    net = make_dit()
    x, t, y = make_inputs(net)
    exit_depth = torch.tensor([4, 1, 3, 3, 2, 4, 1, 4, 2])  # block 5 runs for nobody
    target = torch.randn(9, 4, 8, 8)
    (net(x, t, y, exit_depth=exit_depth) - target).square().mean().backward()
    ours = {name: p.grad for name, p in net.named_parameters()}
    net.zero_grad(set_to_none=True)
    picked = run_every_block_and_pick(net, x, t, y, exit_depth)
    (picked - target).square().mean().backward()
    for name, parameter in net.named_parameters():
        if name.startswith("blocks.4."):
            assert ours[name] is None  # untouched by the optimizer
        else:
            torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_gradient_checkpointing_changes_nothing_but_memory() -> None:
    net = make_dit().train()
    assert not net.gradient_checkpointing
    x, t, y = make_inputs(net)
    exit_depth = torch.tensor([4, 1, 3, 3, 2, 4, 1, 4, 2])
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    net.blocks[0].register_forward_pre_hook(count)  # a recomputation may end early
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


def test_integer_times_are_floats_and_fractions_count() -> None:
    net = make_dit().eval()
    x, t, y = make_inputs(net)
    with torch.no_grad():
        from_ints = net(x, t, y, exit_depth=2)
        assert torch.equal(from_ints, net(x, t.float(), y, exit_depth=2))
        assert (net(x, t + 0.5, y, exit_depth=2) - from_ints).abs().max() > 1e-4


def test_blocks_run_only_on_samples_that_are_alive() -> None:
    net = make_dit().eval()
    seen: list[int] = []
    for block in net.blocks:
        block.register_forward_hook(lambda _block, inputs, _out: seen.append(len(inputs[0])))
    x, t, y = make_inputs(net)
    net(x, t, y, exit_depth=torch.tensor([4, 1, 3, 3, 2, 4, 1, 4, 2]))
    assert seen == [9, 7, 5, 3]


def test_depth_changes_the_output() -> None:
    net = make_dit().eval()
    x, t, y = make_inputs(net)
    with torch.no_grad():
        outputs = [net(x, t, y, exit_depth=depth) for depth in range(1, DEPTH + 1)]
    for shallow, deep in itertools.pairwise(outputs):
        assert (shallow - deep).abs().max() > 1e-3


@pytest.mark.parametrize("depth", [0, -1, DEPTH + 1])
def test_depth_outside_the_model_is_refused(depth: int) -> None:
    net = make_dit()
    x, t, y = make_inputs(net)
    with pytest.raises(ValueError, match=rf"1\.\.{DEPTH}.*got {depth}"):
        net(x, t, y, exit_depth=depth)
    with pytest.raises(ValueError, match=rf"1\.\.{DEPTH}.*got {depth}"):
        net(x, t, y, exit_depth=torch.tensor([1] * 8 + [depth]))
    with pytest.raises(ValueError, match="one integer per sample"):
        net(x, t, y, exit_depth=torch.tensor([1, 2]))


def test_labels() -> None:
    net = make_dit()
    x, t, _ = make_inputs(net)
    with pytest.raises(ValueError, match="7 classes and needs labels"):
        net(x, t, None, exit_depth=1)
    unconditional = make_dit(num_classes=0)
    assert unconditional.num_classes is None
    assert unconditional(x, t, None, exit_depth=1).shape == (9, 4, 8, 8)


@pytest.mark.parametrize(
    "overrides", [{"patch_size": 3}, {"hidden_size": 30}, {"depth": 0}, {"num_heads": 5}]
)
def test_sizes_that_do_not_fit(overrides: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(overrides))):
        make_dit(**overrides)


def test_bfloat16_keeps_the_time_embedding_precise() -> None:
    net = make_dit().eval()
    x, t, y = make_inputs(net)
    with torch.no_grad():
        full = net(x, t, y, exit_depth=2)
        half = net.bfloat16()(x.bfloat16(), t, y, exit_depth=2)
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).abs().mean() < 0.05 * full.abs().mean()


def test_per_sample_exits_are_bit_identical_at_training_size() -> None:
    """The shipped model's shape on its usual batch: not a digit differs on the CPU."""
    net = make_dit(hidden_size=64, depth=10, in_channels=1, num_classes=10, learn_sigma=False)
    x, t, y = make_inputs(net.eval(), 128)
    exit_depth = torch.tensor((10, 10, 9, 9, 7, 7, 6, 6, 4, 4))[t // 100]
    with torch.no_grad():
        actual = net(x, t, y, exit_depth=exit_depth)
        assert torch.equal(actual, run_every_block_and_pick(net, x, t, y, exit_depth))

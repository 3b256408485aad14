"""What is a DiT's own: its names, its size, its formulas, and parity with diffusers."""

import math

import pytest
import torch
from small_models import DEPTH, make_dit, make_inputs
from torch import Tensor

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.registry import build_backbone
from schedsearch.settings import BackboneSettings


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
    import diffusers

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


def test_labels() -> None:
    net = make_dit()
    x, t, _ = make_inputs(net)
    with pytest.raises(ValueError, match='7 classes and needs labels y; the label 7 means "no cl'):
        net(x, t, None, exit_depth=1)
    with pytest.raises(ValueError, match=r"7 classes and needs labels y\.$"):
        make_dit(class_dropout_prob=0.0)(x, t, None, exit_depth=1)
    unconditional = make_dit(num_classes=0)
    assert unconditional.num_classes is None
    assert unconditional(x, t, None, exit_depth=1).shape == (9, 4, 8, 8)
    with pytest.raises(ValueError, match="unconditional and takes no labels"):
        unconditional(x, t, torch.ones(9, dtype=torch.long), exit_depth=1)


@pytest.mark.parametrize(
    "overrides", [{"patch_size": 3}, {"hidden_size": 30}, {"depth": 0}, {"num_heads": 5}]
)
def test_sizes_that_do_not_fit(overrides: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(overrides))):
        make_dit(**overrides)

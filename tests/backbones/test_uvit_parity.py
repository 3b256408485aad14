"""U-ViT against its equations written out."""

import itertools
import math
from collections.abc import Mapping

import pytest
import torch
from small_models import DECODER, make_inputs, make_uvit
from torch import Tensor


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

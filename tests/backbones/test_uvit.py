"""What is a U-ViT's own: its names, its size, its labels, and its long skips."""

import itertools

import pytest
import torch
from small_models import DECODER, make_inputs, make_uvit
from torch import nn

from schedsearch.backbones.guidance import learns_variance, null_label_of
from schedsearch.backbones.uvit import UViT


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
    with pytest.raises(ValueError, match="5 classes and needs labels y; the label 5"):
        conditional(x, t, None, exit_depth=1)
    with pytest.raises(ValueError, match="unconditional and takes no labels"):
        plain(x, t, y, exit_depth=1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"patch_size": 3}, "patch_size must divide img_size, got 3 and 8"),
        ({"num_heads": 5}, "num_heads must divide embed_dim, got 5 and 24"),
        ({"depth": 1}, "depth: must be >= 2, got 1"),
        ({"null_class": True}, "num_classes >= 2, .* got -1"),
        ({"null_class": True, "num_classes": 1}, "num_classes >= 2, .* got 1"),
    ],
)
def test_arguments_that_do_not_fit(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_uvit(**overrides)


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


def test_a_long_skip_is_taken_in_by_samples_that_have_left() -> None:
    net = make_uvit().eval()
    seen: list[int] = []
    for block in net.out_blocks:
        block.skip_linear.register_forward_hook(lambda _, inputs, _o: seen.append(len(inputs[0])))
    x, t, y = make_inputs(net)
    net(x, t, y, exit_depth=torch.tensor([3, 1, 0, 3, 2, 3, 1, 0, 2]))
    assert seen == [9] * DECODER


def test_depth_changes_the_output_without_skips() -> None:
    net = make_uvit(skip=False).eval()
    x, t, y = make_inputs(net)
    with torch.no_grad():
        outputs = [net(x, t, y, exit_depth=depth) for depth in range(DECODER + 1)]
    for shallow, deep in itertools.pairwise(outputs):
        assert (shallow - deep).abs().max() > 1e-3


def test_the_official_argument_turns_checkpointing_on() -> None:
    assert make_uvit(use_checkpoint=True).gradient_checkpointing is True

"""Weights that do not fit a network are refused, and the reason is named."""

from pathlib import Path

import pytest
import torch
from tiny_dit import make_net
from torch import nn

from schedsearch.backbones.weights.checkpoint import fingerprint, load_weights, save_weights
from schedsearch.exceptions import CheckpointError


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_plain_pt_with_the_prefixes_of_wrappers(tmp_path: Path, prefix: str) -> None:
    net, path = make_net(0), tmp_path / "net.pt"
    torch.save({prefix + name: value for name, value in net.state_dict().items()}, path)
    other = make_net(1)
    note = load_weights(other, path)
    assert note == (f"the prefix {prefix!r} of its keys was removed" if prefix else None)
    assert fingerprint(other) == fingerprint(net)


def test_mismatch_is_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "deeper.safetensors"
    save_weights(make_net(0, depth=3, num_classes=4), path)
    with pytest.raises(CheckpointError) as caught:
        load_weights(make_net(1), path)
    text = str(caught.value)
    assert "10 unexpected: blocks.2." in text
    assert "and 5 more" in text
    assert "1 of another shape: y_embedder.embedding_table.weight (file (5, 16), " in text
    assert "By its shapes the file has depth: 3 (model: 2), rows of the label table: 5" in text
    save_weights(make_net(0), path)
    with pytest.raises(CheckpointError, match=r"10 missing: blocks\.2\."):
        load_weights(make_net(1, depth=3), path)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"learn_sigma": True}, "learn_sigma: true (model: false)"),
        ({"depth": 5}, "depth: 5 (model: 2)"),
        ({"hidden_size": 32}, "hidden_size: 32 (model: 16)"),
        ({"patch_size": 2}, "patch_size: 2 (model: 4)"),
        ({"input_size": 16}, "input_size: 16 (model: 8)"),
        ({"in_channels": 4}, "in_channels: 4 (model: 1)"),
        ({"mlp_ratio": 2.0}, "mlp_ratio: 2 (model: 4)"),
        (
            {"class_dropout_prob": 0.0},
            "rows of the label table: 3 (model: 4). The label table has",
        ),
    ],
)
def test_the_argument_to_change_is_named(
    tmp_path: Path, change: dict[str, object], hint: str
) -> None:
    save_weights(make_net(0, **change), tmp_path / "net.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_weights(make_net(1), tmp_path / "net.safetensors")
    text = str(caught.value)
    assert f"By its shapes the file has {hint}" in text
    assert "\n" not in text


@pytest.mark.parametrize("shape", [(0,), (), (0, 3), (0, 0, 0, 0), (1, 1, 1, 1)])
def test_tensors_of_odd_shapes_are_refused_by_name(tmp_path: Path, shape: tuple[int, ...]) -> None:
    state = {name: torch.zeros(shape) for name in make_net(0).state_dict()}
    state["blocks.0.attn.qkv.weight"] = torch.zeros(2, 2)
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="belongs to another model"):
        load_weights(make_net(1), tmp_path / "net.pt")


def test_nothing_is_loaded_when_one_key_is_wrong(tmp_path: Path) -> None:
    path, net = tmp_path / "net.pt", make_net(1)
    state = make_net(0).state_dict()
    del state["final_layer.linear.bias"]
    torch.save(state, path)
    before = fingerprint(net)
    with pytest.raises(CheckpointError, match=r"1 missing: final_layer\.linear\.bias"):
        load_weights(net, path)
    assert fingerprint(net) == before


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda v: v.to(torch.int8), "int8 values"),
        (lambda v: v.to("meta"), "no values"),
        (lambda v: v.to_sparse(), "sparse_coo values"),
        (lambda v: v.to(torch.complex64), "complex64 values"),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse:UserWarning")
def test_values_that_a_copy_would_change_in_silence(tmp_path: Path, change, kind: str) -> None:
    net = nn.Linear(2, 2)
    state = net.state_dict()
    torch.save({**state, "weight": change(state["weight"])}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=f"{kind}.*weight"):
        load_weights(net, tmp_path / "net.pt")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    net = nn.Linear(2, 2)
    state = {name: value.double().clone() for name, value in net.state_dict().items()}
    state["bias"][1] = bad  # 1e300 overflows in float32
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"not finite: bias \(1 of 2\)"):
        load_weights(net, tmp_path / "net.pt")

"""Weights in several files: one shard or the index stands for all of them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from schedsearch.backbones.weights.checkpoint import load_weights
from schedsearch.exceptions import CheckpointError

INDEX = "model.safetensors.index.json"


def shard(number: int) -> str:
    return f"model-0000{number}-of-00002.safetensors"


@pytest.fixture
def net(tmp_path: Path) -> nn.Linear:
    """A network whose weight and bias lie in two files."""
    net = nn.Linear(2, 1)
    save_file({"weight": net.weight.detach()}, tmp_path / shard(1))
    save_file({"bias": net.bias.detach()}, tmp_path / shard(2))
    names = {"weight": shard(1), "bias": shard(2)}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
    return net


@pytest.mark.parametrize("with_index", [True, False])
@pytest.mark.parametrize("name", [shard(1), shard(2), INDEX])
def test_all_shards_are_read(net: nn.Linear, tmp_path: Path, name: str, with_index: bool) -> None:
    if not with_index:
        (tmp_path / INDEX).unlink()
        if name == INDEX:
            return
    other = nn.Linear(2, 1)
    assert "belongs to 2 shards" in (load_weights(other, tmp_path / name) or "")
    assert torch.equal(other.weight, net.weight)
    assert torch.equal(other.bias, net.bias)


@pytest.mark.parametrize(
    "names",
    [
        ("net_1_of_2.safetensors", "net_2_of_2.safetensors"),
        ("net.01-of-02.safetensors", "net.02-of-02.safetensors"),
        ("a.safetensors", "b.safetensors"),
    ],
)
def test_shards_are_known_by_any_usual_name_or_index(
    net: nn.Linear, tmp_path: Path, names: tuple[str, str]
) -> None:
    (tmp_path / INDEX).unlink()
    for number, name in enumerate(names, 1):
        (tmp_path / shard(number)).rename(tmp_path / name)
    if "of" not in names[0]:
        weights = {"weight": names[0], "bias": names[1]}
        (tmp_path / "index.json").write_text(json.dumps({"weight_map": weights}))
    other = nn.Linear(2, 1)
    assert "belongs to 2 shards" in (load_weights(other, tmp_path / names[1]) or "")
    assert torch.equal(other.bias, net.bias)


@pytest.mark.usefixtures("net")
def test_an_empty_shard_is_said_once(tmp_path: Path) -> None:
    (tmp_path / shard(2)).write_bytes(b"")
    with pytest.raises(CheckpointError, match=rf"{shard(2)} is empty") as caught:
        load_weights(nn.Linear(2, 1), tmp_path / shard(1))
    assert str(caught.value).count("The checkpoint") == 1


@pytest.mark.usefixtures("net")
def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / shard(2)).unlink()
    for name in (shard(1), INDEX):
        with pytest.raises(CheckpointError, match=rf"1 of them are missing: {shard(2)}"):
            load_weights(nn.Linear(2, 1), tmp_path / name)


@pytest.mark.usefixtures("net")
def test_an_index_leads_to_no_other_folder(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"weight": "../secret.safetensors"}}))
    with pytest.raises(CheckpointError, match="not a file beside it"):
        load_weights(nn.Linear(2, 1), tmp_path / INDEX)


@pytest.mark.usefixtures("net")
def test_two_shards_with_the_same_tensor(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(1, 2)}, tmp_path / shard(2))
    with pytest.raises(CheckpointError, match="tensors of another shard"):
        load_weights(nn.Linear(2, 1), tmp_path / INDEX)

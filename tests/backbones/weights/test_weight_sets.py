"""Which set of weights a file gives: wrappers, EMA by any name, empty sets."""

from pathlib import Path

import pytest
import torch
from torch import nn

from schedsearch.backbones.weights.checkpoint import load_weights
from schedsearch.backbones.weights.weight_sets import common_prefix, find_sets
from schedsearch.exceptions import CheckpointError


class Small(nn.Module):
    """Two layers, the second in a list."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.first, self.blocks = nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 1)])
        for parameter in self.parameters():
            nn.init.constant_(parameter, value)


RAW, EMA = Small(1.0).state_dict(), Small(2.0).state_dict()


def wrapped(prefix: str, state: dict[str, torch.Tensor] = EMA) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


def loaded(tmp_path: Path, content: object, suffix: str = "") -> tuple[float, str]:
    """The value of the weights that were taken, and the note."""
    torch.save(content, tmp_path / "net.pt")
    net = Small()
    note = load_weights(net, f"{tmp_path / 'net.pt'}{suffix}")
    return float(net.first.bias[0].detach()), note or ""


@pytest.mark.parametrize(
    "prefix", ["module.", "module.module.", "_orig_mod.module.", "model.net.", "generator."]
)
def test_what_stands_before_all_names_is_removed_and_counters_with_it(
    tmp_path: Path, prefix: str
) -> None:
    counters = {"n_averaged": torch.tensor(7), f"{prefix}num_updates": torch.tensor(3)}
    value, note = loaded(tmp_path, counters | wrapped(prefix))
    assert value == 2.0
    assert repr(prefix) in note


def test_a_module_list_is_no_wrapper() -> None:
    assert common_prefix(["a.blocks.0.w", "a.blocks.1.w"]) == "a."
    assert common_prefix(["a.w", "b.w"]) == ""


def test_a_network_whose_own_names_share_a_prefix(tmp_path: Path) -> None:
    inner = nn.Sequential()
    inner.add_module("net", Small(2.0))
    inner.get_submodule("net").load_state_dict(RAW)
    torch.save(wrapped("module.net."), tmp_path / "net.pt")
    assert "'module.'" in (load_weights(inner, tmp_path / "net.pt") or "")
    assert all(torch.equal(value, torch.full_like(value, 2)) for value in inner.parameters())


def test_one_attribute_of_a_training_class(tmp_path: Path) -> None:
    content = {"state_dict": wrapped("denoiser.") | wrapped("vae.", {"conv": torch.ones(3)})}
    value, note = loaded(tmp_path, content)
    assert value == 2.0
    assert "left out were vae.conv" in note


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("model_ema", {"model": RAW, "model_ema": EMA}),
        ("ema_model", {"step": 3, "ema_model": EMA, "model": RAW}),
        ("net_ema", {"net": RAW, "net_ema": EMA}),
        ("state_dict_ema", {"state_dict": RAW, "state_dict_ema": EMA}),
        ("averaged_model", {"model": RAW, "averaged_model": EMA}),
        ("modelEma", {"model": RAW, "modelEma": EMA}),
        ("ema_0.9999", {"model": RAW, "ema_0.9999": EMA}),
        ("ema.model", {"model": RAW, "ema": {"model": EMA, "decay": torch.tensor(0.99)}}),
        ("state.ema", {"state": {"model": RAW, "ema": EMA}}),
        ("ema_model", wrapped("online_model.", RAW) | wrapped("ema_model.")),
        ("state_dict.ema", {"state_dict": wrapped("model.", RAW) | wrapped("ema.")}),
        (
            "model_ema",  # latent-diffusion drops the dots
            wrapped("model.", RAW)
            | {f"model_ema.{n.replace('.', '')}": v for n, v in EMA.items()}
            | {"model_ema.decay": torch.tensor(0.9)},
        ),
    ],
)
def test_the_ema_comes_first_under_every_usual_name(
    tmp_path: Path, key: str, content: dict[str, object]
) -> None:
    value, note = loaded(tmp_path, content)
    assert value == 2.0
    assert f"{key!r} was loaded (#" in note
    assert "holds" in note  # the set that was left out is named
    other = find_sets(content)[0][1].name
    assert loaded(tmp_path, content, f"#{other}")[0] == 1.0


def test_optimizers_and_a_few_averages_are_no_ema(tmp_path: Path) -> None:
    state = {0: {"exp_avg": torch.ones(2), "step": torch.tensor(1.0)}}
    named = {"first.weight": {"exp_avg": torch.ones(2)}}
    content = {"model": RAW, "opt": {"state": state}, "optimizer_ema": named}
    assert loaded(tmp_path, content | {"avg_loss": {"train": torch.ones(1)}})[0] == 1.0


@pytest.mark.parametrize("empty", [{}, None, [], {"decay": torch.tensor(0.9)}])
def test_an_empty_ema_is_passed_over_and_said(tmp_path: Path, empty: object) -> None:
    value, note = loaded(tmp_path, {"ema": empty, "model": RAW})
    assert value == 1.0
    assert "'ema' is empty and was passed over" in note
    with pytest.raises(CheckpointError, match=r"'ema' in .* is empty\. Use #model"):
        loaded(tmp_path, {"ema": empty, "model": RAW}, "#ema")


def test_an_ema_without_names_is_said(tmp_path: Path) -> None:
    value, note = loaded(tmp_path, {"ema": {"shadow_params": list(EMA.values())}, "model": RAW})
    assert value == 1.0
    assert note.endswith("'ema' holds tensors without names and was passed over")


@pytest.mark.parametrize("content", [b"\x80\x04.", b"\x80\x02N.", b"\x80\x02]q\x00a."])
@pytest.mark.filterwarnings("ignore:Detected pickle:UserWarning")
def test_pickles_that_make_no_sense(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(CheckpointError):
        load_weights(Small(), tmp_path / "net.pt")


def test_no_message_ends_in_an_empty_list(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it is an empty mapping"):
        loaded(tmp_path, {})
    with pytest.raises(CheckpointError, match="the keys there are ema"):
        loaded(tmp_path, {"ema": {}})


def test_a_set_that_does_not_fit_names_the_others(tmp_path: Path) -> None:
    other = {f"x.{n}": torch.ones(2) for n in EMA}
    with pytest.raises(CheckpointError, match=r"name one: net\.pt#generator"):
        loaded(tmp_path, {"discriminator": {"a": torch.ones(1), **other}, "generator": EMA})
    assert loaded(tmp_path, {"discriminator": other, "generator": EMA}, "#generator")[0] == 2.0

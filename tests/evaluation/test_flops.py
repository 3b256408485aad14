import pytest
import torch
from torch import nn
from torch.nn import functional as F

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.uvit import UViT
from schedsearch.evaluation.flops import (
    CallFlops,
    FlopTable,
    count_call,
    count_flops,
    count_parameters,
)
from schedsearch.schedules.exit_schedule import ExitSchedule

DIT = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 3,
    "hidden_size": 32,
    "depth": 4,
    "num_heads": 2,
    "num_classes": 5,
    "learn_sigma": True,
}
U_VIT = {
    "img_size": 8,
    "patch_size": 2,
    "in_chans": 3,
    "embed_dim": 32,
    "depth": 6,
    "num_heads": 2,
}


def macs_of_block(tokens, width):
    """Queries, keys, values and projection 4 D^2, MLP 8 D^2 per token; attention apart."""
    return tokens * 12 * width**2, 2 * tokens**2 * width


# ---- against a count by hand ------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_flops_of_a_dit_by_hand(depth):
    T, D, patch = 16, 32, 2 * 2 * 3
    weights, attention = macs_of_block(T, D)
    outside = (
        T * patch * D  # patch embedding
        + 256 * D
        + D * D  # time embedder
        + 2 * D * D  # adaLN of the final layer
        + T * D * 2 * patch  # noise and variance
    )
    found = count_call(DiT(**DIT), depth)
    assert found.weights == 2 * (outside + depth * (weights + 6 * D * D))
    assert found.attention == 2 * depth * attention
    assert found.total == found.weights + found.attention == 2 * found.macs


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_flops_of_a_u_vit_by_hand(depth):
    T, D, patch = 16 + 1, 32, 2 * 2 * 3
    weights, attention = macs_of_block(T, D)
    outside = (
        16 * patch * D  # patch embedding
        + T * D * patch  # decoder_pred, on the time token too
        + 64 * 9 * 3 * 3  # final 3 x 3 convolution
        + 3 * T * 2 * D * D  # skip_linear survives in every decoder block
    )
    whole = 3 + 1 + depth  # encoder, middle, kept decoder blocks
    found = count_call(UViT(**U_VIT), depth)
    assert found.weights == 2 * (outside + whole * weights)
    assert found.attention == 2 * whole * attention


class OneConvolution(nn.Module):
    num_exit_blocks, in_shape, num_classes = 2, (3, 8, 8), None

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x, t, y=None, *, exit_depth):
        for _ in range(exit_depth):
            x = self.conv(x)
        q = x.flatten(2)  # (N, 3, 64)
        return F.scaled_dot_product_attention(q, q, q).reshape(x.shape)


def test_fused_attention_and_convolutions_are_counted():
    found = count_flops(OneConvolution())
    assert found.calls[2].weights == 2 * 2 * 64 * 9 * 3 * 3
    assert found.calls[1].attention == 2 * 2 * 3 * 3 * 64


# ---- the net ----------------------------------------------------------------------------------


def test_counting_leaves_the_net_as_it_was():
    net = DiT(**DIT).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    count_flops(net)
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert {tensor.device.type for tensor in net.state_dict().values()} == {"cpu"}


def test_a_net_on_the_meta_device_or_in_half_precision_counts_the_same():
    expected = count_flops(DiT(**DIT))
    with torch.device("meta"):
        assert count_flops(DiT(**DIT)) == expected
    assert count_flops(DiT(**DIT).bfloat16()) == expected


class AsksForValues(OneConvolution):
    def forward(self, x, t, y=None, *, exit_depth):
        return x * float(t.max())


def test_a_net_that_needs_values_is_refused_with_a_remedy():
    with pytest.raises(ValueError, match=r"AsksForValues cannot be counted.*Keep values"):
        count_flops(AsksForValues())


def test_parameters_leave_buffers_out():
    net = DiT(**DIT)
    assert count_parameters(net) == sum(
        tensor.numel() for name, tensor in net.state_dict().items() if name != "pos_embed"
    )


# ---- savings ----------------------------------------------------------------------------------


def table_of(**calls):
    return FlopTable(
        calls={int(d[1:]): CallFlops(weights=f, attention=0) for d, f in calls.items()},
        full_depth=4,
    )


def test_a_saving_is_the_mean_over_the_intervals():
    table = table_of(_1=40, _2=60, _4=100)
    schedule = ExitSchedule((4, 4, 2, 2, 2, 1, 1, 1, 1, 1))
    assert table.mean_total(schedule) == (2 * 100 + 3 * 60 + 5 * 40) / 10
    assert table.saving(schedule) == pytest.approx(0.42)
    assert table.saving(ExitSchedule.flat(4)) == 0.0


def test_a_saving_over_a_solvers_times_weighs_them():
    table = table_of(_1=40, _2=60, _4=100)
    schedule = ExitSchedule((4, 4, 2, 2, 2, 1, 1, 1, 1, 1))
    times = (999.0, 450.0, 50.5, 0.0)  # depths 1, 2, 4, 4
    assert table.saving(schedule, times) == pytest.approx(1 - (40 + 60 + 200) / 400)
    assert table.saving(schedule, iter(times)) == table.saving(schedule, times)


def test_savings_need_times_and_counted_depths():
    table = table_of(_4=100)
    with pytest.raises(ValueError, match="at least one time"):
        table.saving(ExitSchedule.flat(4), ())
    with pytest.raises(KeyError, match="3"):
        table.saving(ExitSchedule.flat(3))


def test_full_depth_is_always_counted():
    table = count_flops(DiT(**DIT), [2])
    assert list(table.calls) == [2, 4]
    assert table.full_depth == 4


def test_dit_xl_costs_what_its_paper_says_and_its_blocks_are_nearly_all_of_it():
    with torch.device("meta"):
        table = count_flops(DiT(), [7])  # XL/2
    assert table.calls[28].macs == pytest.approx(118.64e9, rel=5e-4)  # DiT, Table 4
    assert table.saving(ExitSchedule.flat(7)) == pytest.approx(21 / 28, abs=2e-3)

"""Networks run block by block, runs that start afresh, and the account that a run keeps."""

import pytest
import torch
from torch import Tensor

from schedsearch.exceptions import ConfigError
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, Method, ObservedCall, StagedBackbone
from schedsearch.schedules.exit_schedule import ExitSchedule
from tests.backbones.small_models import DECODER, make_dit, make_inputs, make_uvit

NETS = {"dit": make_dit().eval(), "uvit": make_uvit().eval()}


@pytest.mark.parametrize("name", NETS)
def test_block_by_block_equals_one_call(name: str) -> None:
    net = NETS[name]
    assert isinstance(net, StagedBackbone)
    x, t, y = make_inputs(net)
    with torch.no_grad():
        tokens = net.open(x, t, y)
        for block in range(net.num_blocks):
            tokens = net.run(tokens, block)
        assert tokens.h.shape[-1] == net.width
        for exits in ("decoder", "all"):
            found = net.close(tokens, net.num_blocks, exits)
            assert torch.equal(found, net(x, t, y, exit_depth=net.num_exit_blocks))


def test_rows_select_samples_of_every_field() -> None:
    net = NETS["uvit"]
    x, t, y = make_inputs(net)
    with torch.no_grad():
        tokens = net.run(net.run(net.open(x, t, y), 0), 1)
        part = tokens.rows(torch.tensor([4, 1]))
        assert len(part.skips) == 2
        expected = net.run(tokens, 2).rows(torch.tensor([4, 1]))
        torch.testing.assert_close(net.run(part, 2).h, expected.h)


def test_the_encoder_of_a_uvit_has_exits_only_where_all_blocks_have() -> None:
    net = NETS["uvit"]
    x, t, y = make_inputs(net)
    with torch.no_grad():
        tokens = net.run(net.open(x, t, y), 0)
        with pytest.raises(ValueError, match=f"at least {DECODER + 1} blocks, got 1"):
            net.close(tokens, 1)
        assert net.close(tokens, 1, "all").shape == x.shape


class Counting(MethodRun):
    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        self.note_blocks(2.5, len(x))
        return self.net(x, t, y, exit_depth=2)

    def held(self) -> list[Tensor]:
        return [torch.zeros(3, 2)]


def test_a_run_keeps_account_of_its_blocks() -> None:
    net = NETS["dit"]
    run = Counting(net, guided=False)
    x, t, y = make_inputs(net, 2)
    with torch.no_grad():
        run(x, t, y, clock=500.0, step=0)
    assert isinstance(run, ObservedCall)
    assert [blocks.tolist() for blocks in run.blocks] == [[2.5, 2.5]]
    assert run.held_bytes() == run.peak_bytes == 24


def test_a_network_without_stages_is_refused() -> None:
    class Plain:
        num_exit_blocks = 3

    with pytest.raises(ConfigError, match="FORA runs the network block by block, but Plain"):
        staged(Plain(), "FORA")  # type: ignore[arg-type]
    assert staged(NETS["dit"], "FORA") is NETS["dit"]


@pytest.mark.parametrize("name", NETS)
def test_a_schedule_is_a_method(name: str) -> None:
    net: Backbone = NETS[name]
    method: Method = ExitSchedule((4, 4, 4, 4, 4, 3, 3, 2, 2, 1))
    x, t, y = make_inputs(net)
    call = method.begin(net, (999.0, 501.0, 0.0), guided=False)
    with torch.no_grad():
        for step, (clock, depth) in enumerate([(999.0, 1), (501.0, 3), (0.0, 4)]):
            found = call(x, t, y, clock=clock, step=step)
            assert torch.equal(found, net(x, t, y, exit_depth=depth))

"""Dynamic exits: who exits where, and that the rest of the batch changes nothing."""

from typing import Any

import pytest
import torch

from schedsearch.backbones.every_exit import exit_points
from schedsearch.methods.exits.similarity import SimilarityExit
from schedsearch.methods.exits.uncertainty import UncertaintyExit
from tests.methods.exits.exit_networks import (
    AT_ONCE,
    NETS,
    NEVER,
    call,
    inputs,
    judged,
    kinds,
    layouts,
    limits,
    mixed,
    nets,
    signals,
)

# ---- thresholds that never exit, or always ------------------------------------------------------


@kinds
@nets
@layouts
def test_without_an_exit_it_is_full_depth(kind: Any, name: str, exits: str) -> None:
    net, batch = judged(name, exits), inputs(NETS[name])
    found, blocks = call(kind(threshold=NEVER[kind], exits=exits), net, batch)
    with torch.no_grad():
        expected = NETS[name](*batch, exit_depth=net.num_exit_blocks)
    assert torch.equal(found, expected)
    assert blocks.tolist() == [net.num_blocks] * 9


@kinds
@nets
def test_with_the_loosest_threshold_it_is_the_first_exit(kind: Any, name: str) -> None:
    net, batch = judged(name), inputs(NETS[name])
    found, blocks = call(kind(threshold=AT_ONCE[kind]), net, batch)
    depth = 0 if name != "dit" else 2 if kind is SimilarityExit else 1
    with torch.no_grad():
        assert torch.equal(found, NETS[name](*batch, exit_depth=depth))
    always = net.num_blocks - net.num_exit_blocks
    assert blocks.tolist() == [always + depth] * 9


@nets
def test_the_fewest_blocks_hold(name: str) -> None:
    net, batch = judged(name), inputs(NETS[name])
    always = net.num_blocks - net.num_exit_blocks
    method = UncertaintyExit(threshold=1.1, min_blocks=always + 3)
    found, blocks = call(method, net, batch)
    assert set(blocks.tolist()) == {always + 3}
    with torch.no_grad():
        assert torch.equal(found, NETS[name](*batch, exit_depth=3))


def test_an_encoder_exit_goes_straight_to_the_head() -> None:
    net, batch = judged("uvit", "all"), inputs(NETS["uvit"])
    found, blocks = call(UncertaintyExit(threshold=1.1, exits="all"), net, batch)
    assert set(blocks.tolist()) == {1}
    with torch.no_grad():
        tokens = net.run(net.open(*batch), 0)
        assert torch.equal(found, net.close(tokens, 1, "all"))


# ---- who decides --------------------------------------------------------------------------------


@kinds
@nets
def test_a_sample_exits_at_the_first_signal_below_the_threshold(kind: Any, name: str) -> None:
    net, batch = judged(name), inputs(NETS[name])
    method = mixed(kind, net, batch)
    found = call(method, net, batch)[1].long().tolist()
    sign = -1 if kind is SimilarityExit else 1
    seen, points = signals(method, net, batch), exit_points(net)
    for sample, depth in enumerate(found):
        passing = [
            point
            for point, signal in zip(points, seen[:, sample].tolist(), strict=True)
            if signal < sign * method.threshold and point >= method.min_blocks
        ]
        assert depth == min([*passing, net.num_blocks])


@nets
def test_similarity_is_the_mean_cosine_of_the_patch_tokens(name: str) -> None:
    net, batch = judged(name), inputs(NETS[name], 2)
    found = signals(SimilarityExit(threshold=0.5), net, batch)
    first = exit_points(net)[1]
    with torch.no_grad():
        tokens, hs = net.open(*batch), []
        for block in range(first):
            tokens = net.run(tokens, block)
            hs.append(tokens.h)
    for n in range(2):
        cosines = []
        for patch in range(net.num_extras, net.num_extras + 16):
            a, b = hs[-2][n, patch], hs[-1][n, patch]
            cosines.append(float(a @ b / a.norm() / b.norm()))
        assert -found[1, n].item() == pytest.approx(sum(cosines) / 16, rel=1e-4)


@kinds
@nets
@layouts
def test_it_equals_every_sample_alone_and_the_recorded_depths(
    kind: Any, name: str, exits: str
) -> None:
    net, batch = judged(name, exits), inputs(NETS[name])
    x, t, y = batch
    method = mixed(kind, net, batch, exits)
    found, blocks = call(method, net, batch)
    for n in range(len(x)):
        alone = (x[n : n + 1], t[n : n + 1], None if y is None else y[n : n + 1])
        one, its_blocks = call(method, net, alone)
        torch.testing.assert_close(found[n : n + 1], one, rtol=1e-5, atol=1e-6)
        assert its_blocks.tolist() == blocks[n : n + 1].tolist()
    if exits == "decoder":
        depths = blocks.long() - (net.num_blocks - net.num_exit_blocks)
        with torch.no_grad():
            expected = NETS[name](*batch, exit_depth=depths)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@kinds
def test_recorded_depths_give_the_same_bits_at_equal_parts(kind: Any) -> None:
    """Samples that exit together, run alone with the depths that they took."""
    net, batch = judged("dit"), inputs(NETS["dit"])
    found, blocks = call(mixed(kind, net, batch), net, batch)
    x, t, y = batch
    assert y is not None
    for depth in blocks.unique().tolist():
        rows = blocks == depth
        method = kind(threshold=AT_ONCE[kind], min_blocks=int(depth)) if depth >= 2 else None
        if method is not None:
            part, _ = call(method, net, (x[rows], t[rows], y[rows]))
            with torch.no_grad():
                expected = NETS["dit"](x[rows], t[rows], y[rows], exit_depth=int(depth))
            assert torch.equal(part, expected)
            torch.testing.assert_close(found[rows], expected, rtol=1e-5, atol=1e-6)


@kinds
@nets
def test_permuting_the_batch_permutes_the_result(kind: Any, name: str) -> None:
    net, (x, t, y) = judged(name), inputs(NETS[name])
    method = mixed(kind, net, (x, t, y))
    found, blocks = call(method, net, (x, t, y))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(5))
    shuffled = (x[order], t[order], None if y is None else y[order])
    found_shuffled, blocks_shuffled = call(method, net, shuffled)
    torch.testing.assert_close(found_shuffled, found[order], rtol=1e-5, atol=1e-6)
    assert torch.equal(blocks_shuffled, blocks[order])


@kinds
@nets
def test_other_rows_matter_only_to_the_batch_mean(kind: Any, name: str) -> None:
    net, (x, t, y) = judged(name), inputs(NETS[name])
    by_sample = mixed(kind, net, (x, t, y))
    part = (x[:4], t[:4], None if y is None else y[:4])
    found, blocks = call(by_sample, net, (x, t, y))
    found_part, blocks_part = call(by_sample, net, part)
    assert torch.equal(blocks_part, blocks[:4])
    torch.testing.assert_close(found_part, found[:4], rtol=1e-5, atol=1e-6)

    # A threshold between the mean of all rows and that of one, at one exit.
    seen = signals(by_sample, net, (x, t, y))
    sign = -1 if kind is SimilarityExit else 1
    exit_index = 1
    mean, lone = seen[exit_index].mean(), seen[exit_index].max()
    min_blocks = exit_points(net)[exit_index]
    method = kind(threshold=sign * float((mean + lone) / 2), decide="batch", min_blocks=min_blocks)
    n = int(seen[exit_index].argmax())
    alone = (x[n : n + 1], t[n : n + 1], None if y is None else y[n : n + 1])
    together, its_blocks = call(method, net, (x, t, y))
    one, blocks_alone = call(method, net, alone)
    assert its_blocks.unique().tolist() == [min_blocks]
    assert blocks_alone.item() > min_blocks
    assert not torch.allclose(one, together[n : n + 1], rtol=1e-3, atol=1e-3)


@kinds
@nets
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_one_sample_decides_as_a_batch_of_one(kind: Any, name: str, share: float) -> None:
    net, batch = judged(name), inputs(NETS[name], 1)
    found = limits(signals(kind(threshold=0.5), net, batch))
    limit = found[int(share * len(found))][0] * (-1 if kind is SimilarityExit else 1)
    runs = [call(kind(threshold=limit, decide=d), net, batch) for d in ("sample", "batch")]
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])


@kinds
@pytest.mark.parametrize("decide", ["sample", "batch"])
@pytest.mark.parametrize("name", ["dit", "labelled uvit"])
def test_rows_of_a_guided_sample_decide_together(kind: Any, decide: str, name: str) -> None:
    net, (x, t, y) = judged(name), inputs(NETS[name])
    assert y is not None
    method = mixed(kind, net, (x, t, y))
    options = {
        "threshold": method.threshold,
        "min_blocks": method.min_blocks,
        "decide": decide,
    }
    same = (torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, y]))
    alone, blocks = call(kind(**options), net, (x, t, y))
    for pair in ("pair", "separate"):
        found, both = call(kind(**options, pair=pair), net, same, guided=True)
        assert torch.equal(both, blocks.repeat(2))
        torch.testing.assert_close(found, alone.repeat(2, 1, 1, 1), rtol=1e-5, atol=1e-6)

    # Rows that differ: both exit by their mean, or each by itself.
    other = (torch.cat([x, x.roll(1, 0)]), torch.cat([t, t]), torch.cat([y, y.roll(1)]))
    _, blocks = call(kind(**options, pair="pair"), net, other, guided=True)
    first, second = blocks.chunk(2)
    assert torch.equal(first, second)
    _, separate = call(kind(**options, pair="separate"), net, other, guided=True)
    lone = [
        call(kind(**options), net, tuple(part[rows] for part in other))[1]  # type: ignore[misc]
        for rows in (slice(0, 9), slice(9, 18))
    ]
    assert torch.equal(separate, torch.cat(lone))
    if decide == "sample":
        assert not torch.equal(separate, blocks)


def test_halves_of_a_guided_batch_can_exit_apart() -> None:
    """``batch`` with ``separate``: each half by its own mean, even where they differ."""
    net, (x, t, y) = judged("dit"), inputs(NETS["dit"], 3)
    assert y is not None
    other = (torch.cat([x, 3 * x]), torch.cat([t, t]), torch.cat([y, y.flip(0)]))
    halves = signals(UncertaintyExit(threshold=0.5), net, other).unflatten(1, (2, 3)).mean(2)
    exit_index = int((halves[:-1, 0] - halves[:-1, 1]).abs().argmax())
    limit = float(halves[exit_index].mean())
    method = UncertaintyExit(
        threshold=limit, decide="batch", pair="separate", min_blocks=exit_index + 1
    )
    _, blocks = call(method, net, other, guided=True)
    first, second = blocks.chunk(2)
    assert len(first.unique()) == len(second.unique()) == 1
    assert first[0] != second[0]


def test_patience_waits_for_a_second_pass_in_a_row() -> None:
    net, batch = judged("dit"), inputs(NETS["dit"])
    _, blocks = call(UncertaintyExit(threshold=1.1, patience=1), net, batch)
    assert set(blocks.tolist()) == {2}
    signal = signals(UncertaintyExit(threshold=0.5), net, batch)
    for limit, _ in limits(signal):
        seen = signal < limit
        _, blocks = call(UncertaintyExit(threshold=limit, patience=1), net, batch)
        for n, depth in enumerate(blocks.long().tolist()):
            twice = [i + 1 for i in range(1, 4) if seen[i, n] and seen[i - 1, n]]
            assert depth == min([*twice, net.num_blocks])

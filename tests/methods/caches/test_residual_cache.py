"""Residual caches: the ends of their thresholds, a rule by hand, and decisions per sample."""

import itertools

import pytest
import torch

from schedsearch.evaluation.sampling import balanced_labels
from schedsearch.exceptions import ConfigError
from schedsearch.methods.caches.residual_cache import (
    ResidualCache,
    ResidualCacheRun,
    first_input,
    polynomial,
)
from tests.methods.caches.cached_runs import (
    INPUT_THRESHOLD,
    NETS,
    TIMES,
    constant_branches,
    sample,
    sample_plain,
    threshold_of,
    watch,
)

everywhere = pytest.mark.parametrize("net", NETS.values(), ids=NETS)
both_decide = pytest.mark.parametrize("decide", ["batch", "sample"])


def fbcache(net, **overrides):
    options = {"first": 1, "signal": "residual", "threshold": threshold_of(net)}
    return ResidualCache(**{**options, **overrides})


def teacache(**overrides):
    options = {"first": 0, "signal": "input", "threshold": INPUT_THRESHOLD}
    return ResidualCache(**{**options, **overrides})


def blocks_of(run):
    """Blocks per step and row, (S, N)."""
    return torch.stack(run.blocks)


# ---- the ends ------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
@both_decide
@everywhere
def test_caches_that_never_reuse_are_full_depth(net, decide, cfg_scale):
    expected = sample_plain(net, cfg_scale=cfg_scale)
    for method in (
        ResidualCache(first=1, signal="steps", every=1, decide=decide),
        fbcache(net, threshold=0.0, decide=decide, last=1),
        teacache(threshold=0.0, decide=decide),
        teacache(warmup=len(TIMES), decide=decide),
        fbcache(net, first=net.num_blocks, decide=decide),
    ):
        found, run = sample(method, net, cfg_scale=cfg_scale)
        assert torch.equal(found, expected)
        assert (blocks_of(run) == net.num_blocks).all()


@pytest.mark.parametrize("warmup", [0, 1, 3])
@both_decide
@everywhere
def test_a_threshold_of_1_runs_the_middle_only_in_the_warmup(net, decide, warmup):
    method = fbcache(net, first=2, threshold=1.0, warmup=warmup, decide=decide, last=1)
    _, run = sample(method, net)
    computed = max(1, warmup)
    assert (blocks_of(run)[:computed] == net.num_blocks).all()
    assert (blocks_of(run)[computed:] == 3).all()


@everywhere
def test_first_and_last_step_of_teacache_run_all_blocks(net):
    _, run = sample(teacache(threshold=99.0), net)
    assert blocks_of(run)[:, 0].tolist() == [net.num_blocks, *[0] * 7, net.num_blocks]


@everywhere
def test_a_network_that_always_adds_the_same_is_cached_almost_exactly(net):
    net = constant_branches(net)
    plain = sample_plain(net)
    for method in (
        ResidualCache(first=1, signal="steps", every=4),
        fbcache(net, threshold=0.5),
        teacache(),
    ):
        found, run = sample(method, net)
        assert (blocks_of(run) < net.num_blocks).any()
        # x + (h - x) is rounded.
        torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5 * float(plain.abs().max()))


# ---- the rules -----------------------------------------------------------------------------


def by_hand(net, x, t, y, first, last, cached):
    """One call that reuses what the middle added, in plain loops; and what it would add."""
    tokens = net.open(x, t, y)
    for block in range(first):
        tokens = net.run(tokens, block)
    whole = tokens
    for block in range(first, net.num_blocks - last):
        whole = net.run(whole, block)
    added = whole.h - tokens.h
    if cached is not None:
        whole = whole.with_h(tokens.h + cached)  # keeps the fresh skips of the first blocks
    for block in range(net.num_blocks - last, net.num_blocks):
        whole = net.run(whole, block)
    return net.close(whole, net.num_blocks), added


@pytest.mark.parametrize("last", [0, 1])
@everywhere
def test_a_reused_step_adds_what_the_middle_added(net, last):
    generator = torch.Generator().manual_seed(0)
    y = balanced_labels(3, net.num_classes)
    call = ResidualCache(first=2, signal="steps", every=3, last=last).begin(
        net, TIMES, guided=False
    )
    with torch.no_grad():
        for step, time in enumerate(TIMES[:5]):
            x = torch.randn(3, *net.in_shape, generator=generator)
            t = torch.full((3,), float(time))
            found = call(x, t, y, clock=time, step=step)
            cached = None if step % 3 == 0 else kept  # noqa: F821
            expected, added = by_hand(net, x, t, y, 2, last, cached)
            assert torch.equal(found, expected)
            if step % 3 == 0:
                kept = added  # noqa: F841
    assert blocks_of(call)[:, 0].tolist() == [
        net.num_blocks if step % 3 == 0 else 2 + last for step in range(5)
    ]


def signals(net, method, num, **options):
    """What a method watches at every step of its own run, taken from its calls."""
    seen = []
    begin = ResidualCache.begin

    class Watched:
        def begin(self, net, times, *, guided):
            call = begin(method, net, times, guided=guided)

            def watched(x, t, y, *, clock, step):
                tokens = net.open(x, t, y)
                if method.signal == "input":
                    seen.append(first_input(net, tokens))
                else:
                    opened = tokens.h
                    for block in range(method.first):
                        tokens = net.run(tokens, block)
                    seen.append(tokens.h - opened)
                return call(x, t, y, clock=clock, step=step)

            watched.run = call
            return watched

    _, watched = sample(Watched(), net, num=num, **options)
    return seen, blocks_of(watched.run)


def change(now, before, rows):
    return float((now - before)[rows].abs().sum() / before[rows].abs().sum())


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
@both_decide
@everywhere
def test_fbcache_compares_with_the_last_computed_step(net, decide, cfg_scale):
    method, num = fbcache(net, decide=decide), 5
    seen, blocks = signals(net, method, num, cfg_scale=cfg_scale)
    for row in range(blocks.shape[1]):
        pair = [row % num, row % num + num] if cfg_scale != 1 else [row]
        rows = slice(None) if decide == "batch" else pair
        computed, expected = seen[0], [net.num_blocks]
        for signal in seen[1:]:
            reuse = change(signal, computed, rows) < method.threshold
            expected.append(1 if reuse else net.num_blocks)
            computed = computed if reuse else signal
        assert blocks[:, row].tolist() == expected
    assert (blocks == 1).any()
    assert (blocks != blocks[:, :1]).any() == (decide == "sample")


@pytest.mark.parametrize("rescale", [None, (0.3, 0.9, 0.01)])
@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
@both_decide
@everywhere
def test_teacache_adds_up_the_changes_of_every_step(net, decide, cfg_scale, rescale):
    method, num = teacache(decide=decide, rescale=rescale), 5
    seen, blocks = signals(net, method, num, cfg_scale=cfg_scale)
    for row in range(blocks.shape[1]):
        pair = [row % num, row % num + num] if cfg_scale != 1 else [row]
        rows = slice(None) if decide == "batch" else pair
        added, expected = 0.0, [net.num_blocks]
        for before, now in itertools.pairwise(seen[:-1]):
            moved = change(now, before, rows)
            added += moved if rescale is None else 0.3 * moved**2 + 0.9 * moved + 0.01
            expected.append(0 if added < INPUT_THRESHOLD else net.num_blocks)
            added = added if added < INPUT_THRESHOLD else 0.0
        assert blocks[:, row].tolist() == [*expected, net.num_blocks]
    assert (blocks == 0).any()
    if rescale is None:
        assert (blocks != blocks[:, :1]).any() == (decide == "sample")


def test_the_signal_of_a_dit_is_the_modulated_input_of_block_0():
    net = NETS["dit"]
    x, t, y = torch.randn(2, *net.in_shape), torch.full((2,), 500.0), torch.tensor([0, 1])
    with torch.no_grad():
        tokens = net.open(x, t, y)
        block = net.blocks[0]
        shift, scale = block.adaLN_modulation(tokens.condition)[:, None].chunk(6, -1)[:2]
        expected = block.norm1(tokens.h) * (1 + scale) + shift
        ran = []
        handles = watch(net, "attn", lambda index, h: ran.append(index))
        assert torch.equal(first_input(net, tokens), expected)
        for handle in handles:
            handle.remove()
    assert ran == []


def test_a_polynomial_below_zero_means_no_change():
    values = polynomial((2.0, 0.0, -1.0), torch.tensor([0.5, 2.0]))
    assert values.tolist() == [0.0, 7.0]


# ---- a recorded run as a static plan -------------------------------------------------------


class Replayed:
    """A static plan: runs the middle where a recorded run did, whatever the images say."""

    def __init__(self, method, reused):
        self.method, self.reused = method, reused  # reused: (S, N) bool

    def begin(self, net, times, *, guided):
        plan = self.reused

        class Run(ResidualCacheRun):
            def _decide(self, opened, tokens, step):
                return plan[step]

        return Run(net, self.method, len(times), guided=guided)


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
@pytest.mark.parametrize("signal", ["residual", "input"])
@both_decide
@everywhere
def test_a_replayed_run_makes_the_same_images_to_the_bit(net, decide, signal, cfg_scale):
    of_signal = fbcache if signal == "residual" else lambda _, **options: teacache(**options)
    images, run = sample(of_signal(net, decide=decide), net, num=5, cfg_scale=cfg_scale)
    hits = blocks_of(run) < net.num_blocks
    assert 0 < hits.sum() < hits.numel()
    # NOTE: another threshold shows that the plan decides, and nothing that the run watches.
    plan = Replayed(of_signal(net, threshold=0.0), hits)
    replayed, again = sample(plan, net, num=5, cfg_scale=cfg_scale)
    assert torch.equal(replayed, images)
    assert torch.equal(blocks_of(again), blocks_of(run))
    other, _ = sample(
        Replayed(plan.method, torch.zeros_like(hits)), net, num=5, cfg_scale=cfg_scale
    )
    assert not torch.equal(other, images)


@everywhere
def test_a_batch_replayed_by_hand_makes_the_same_images_to_the_bit(net):
    method = fbcache(net)
    generator = torch.Generator().manual_seed(0)
    y = balanced_labels(3, net.num_classes)
    start = torch.randn(3, *net.in_shape, generator=generator)
    inputs = [start * (1 - 0.02 * step) for step in range(len(TIMES))]
    call, found, kept = method.begin(net, TIMES, guided=False), [], None
    with torch.no_grad():
        for step, time in enumerate(TIMES):
            t = torch.full((3,), float(time))
            found.append(call(inputs[step], t, y, clock=time, step=step))
        hits = (blocks_of(call) < net.num_blocks)[:, 0].tolist()
        assert True in hits
        for step, time in enumerate(TIMES):
            t = torch.full((3,), float(time))
            cached = kept if hits[step] else None
            expected, added = by_hand(net, inputs[step], t, y, 1, 0, cached)
            assert torch.equal(found[step], expected)
            kept = kept if hits[step] else added


# ---- decisions per sample ------------------------------------------------------------------


@pytest.mark.parametrize("signal", ["residual", "input"])
@everywhere
def test_per_sample_decisions_do_not_depend_on_the_batch(net, signal):
    method = (
        fbcache(net, decide="sample", last=1)
        if signal == "residual"
        else teacache(decide="sample")
    )
    images, run = sample(method, net, num=5)
    assert (blocks_of(run) != blocks_of(run)[:, :1]).any()
    few, run_of_few = sample(method, net, num=2)
    assert torch.equal(blocks_of(run_of_few), blocks_of(run)[:, :2])
    torch.testing.assert_close(few, images[:2], rtol=1e-4, atol=1e-3)


@everywhere
def test_a_batch_decision_depends_on_the_batch(net):
    runs = {num: blocks_of(sample(teacache(), net, num=num)[1])[:, 0] for num in (1, 2, 3, 5)}
    assert len({tuple(blocks.tolist()) for blocks in runs.values()}) > 1


@both_decide
@everywhere
def test_the_account_is_what_hooks_count(net, decide):
    ran = torch.zeros(())
    handles = watch(net, "mlp", lambda index, h: ran.add_(len(h)))
    _, run = sample(fbcache(net, decide=decide, last=1), net, num=5)
    for handle in handles:
        handle.remove()
    assert blocks_of(run).sum() == ran


@everywhere
def test_held_bytes_are_those_of_two_token_tensors(net):
    tokens = 3 * ((net.in_shape[1] // net.patch_size) ** 2 + net.num_extras) * net.width * 4
    assert sample(fbcache(net), net)[1].held_bytes() == 2 * tokens
    steps = ResidualCache(first=1, signal="steps", every=2)
    assert sample(steps, net)[1].held_bytes() == tokens


# ---- mistakes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": 1, "signal": "time"}, "signal must be steps, residual or input"),
        ({"first": 1, "signal": "steps"}, "needs every with signal: steps"),
        ({"first": 1, "signal": "steps", "every": 2, "threshold": 0.1}, "needs every with"),
        ({"first": 1, "signal": "residual", "every": 2}, "needs every with signal: steps"),
        ({"first": 1, "signal": "steps", "every": 0}, "at least 1, got 0"),
        ({"first": 0, "signal": "residual", "threshold": 0.1}, "set first to 1 or more"),
        ({"first": -1, "signal": "input", "threshold": 0.1}, "must not be negative"),
        (
            {"first": 1, "signal": "residual", "threshold": 0.1, "rescale": (1.0,)},
            "rescale of a residual cache belongs to signal: input",
        ),
        (
            {"first": 1, "signal": "residual", "threshold": 0.1, "decide": "pair"},
            "decide must be batch or sample, got 'pair'",
        ),
    ],
)
def test_arguments_that_contradict_each_other(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ResidualCache(**arguments)


def test_networks_with_too_few_blocks():
    with pytest.raises(ConfigError, match=r"network's 5 blocks together, got 4 \+ 2"):
        fbcache(NETS["dit"], first=4, last=2).begin(NETS["dit"], TIMES, guided=False)
    with pytest.raises(ConfigError, match="set last to at most first = 1, got 2"):
        fbcache(NETS["uvit"], last=2).begin(NETS["uvit"], TIMES, guided=False)

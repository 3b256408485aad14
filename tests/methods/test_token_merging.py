"""Token merging: groups, what runs on fewer tokens, and the texts that name blocks."""

import pytest
import torch

from schedsearch.exceptions import ConfigError
from schedsearch.methods.token_merging import Groups, TokenMerging, merged_blocks, split_grid
from tests.backbones.small_models import make_dit
from tests.methods.caches.cached_runs import NETS, TIMES, sample, sample_plain, watch

everywhere = pytest.mark.parametrize("net", NETS.values(), ids=NETS)

CORNERS = torch.zeros(4, dtype=torch.long)
CPU = torch.device("cpu")


def match(h, num_merged, num_extras=0, side=4):
    corners = torch.zeros(side**2 // 4, dtype=torch.long)
    return Groups.match(h, num_extras, split_grid(side, corners, CPU), num_merged)


def tokens(num_extras=0, n=3, side=4, width=6):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, num_extras + side**2, width, generator=generator)


# ---- groups --------------------------------------------------------------------------------


def test_each_cell_has_one_destination():
    destinations, sources = split_grid(4, CORNERS, CPU)
    assert destinations.tolist() == [0, 2, 8, 10]
    assert sorted([*destinations.tolist(), *sources.tolist()]) == list(range(16))
    destinations, _ = split_grid(4, torch.tensor([0, 1, 2, 3]), CPU)
    assert destinations.tolist() == [0, 3, 12, 15]


@pytest.mark.parametrize("num_extras", [0, 2])
def test_nothing_merged_is_the_same(num_extras):
    h = tokens(num_extras)
    groups = match(h, 0, num_extras)
    assert torch.equal(groups.unmerge(groups.merge(h)), h)


@pytest.mark.parametrize("num_merged", [1, 5, 12])
@pytest.mark.parametrize("num_extras", [0, 2])
def test_tokens_become_the_means_of_their_groups(num_extras, num_merged):
    """The matching, once more in plain loops."""
    h = tokens(num_extras)
    groups = match(h, num_merged, num_extras)
    merged = groups.merge(h)
    assert merged.shape == (3, num_extras + 16 - num_merged, 6)
    destinations = [num_extras + position for position in (0, 2, 8, 10)]
    expected = h.clone()
    for row in range(3):
        nearest = {}
        for source in set(range(num_extras, num_extras + 16)) - set(destinations):
            cosines = torch.cosine_similarity(h[row, source][None], h[row, destinations])
            nearest[source] = float(cosines.max()), destinations[int(cosines.argmax())]
        members = {destination: [destination] for destination in destinations}
        for source in sorted(nearest, key=nearest.get, reverse=True)[:num_merged]:
            members[nearest[source][1]].append(source)
        for group in members.values():
            expected[row, group] = h[row, group].mean(0)
    torch.testing.assert_close(groups.unmerge(merged), expected)
    assert torch.equal(groups.unmerge(merged)[:, :num_extras], h[:, :num_extras])


def test_two_equal_tokens_merge_without_loss():
    h = tokens()
    h[:, 5] = h[:, 8]  # a source, and the destination of another cell
    groups = match(h, 1)
    assert torch.equal(groups.unmerge(groups.merge(h)), h)
    assert (groups.index[:, 5] == groups.index[:, 8]).all()


def test_extra_tokens_stay_alone_even_if_they_equal_a_patch():
    h = tokens(num_extras=2)
    h[:, 0] = h[:, 1] = h[:, 2]
    index = match(h, 12, num_extras=2).index
    for extra in (0, 1):
        assert (index == index[:, extra, None]).sum(1).tolist() == [1, 1, 1]


# ---- runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
@everywhere
def test_a_ratio_of_0_is_full_depth(net, cfg_scale):
    expected = sample_plain(net, cfg_scale=cfg_scale)
    for ratio in (0.0, 0.06):  # 0.06 of 16 patches are none
        found, run = sample(TokenMerging("all", ratio, ("mlp",)), net, cfg_scale=cfg_scale)
        assert torch.equal(found, expected)
        assert run.held_bytes() == 0


@pytest.mark.parametrize(("ratio", "num_merged"), [(0.25, 4), (0.5, 8), (0.6, 9), (0.9, 12)])
@pytest.mark.parametrize("parts", [("attention",), ("attention", "mlp")])
@everywhere
def test_sub_blocks_run_on_fewer_tokens(net, parts, ratio, num_merged):
    seen = {"attention": {}, "mlp": {}}

    def note(part):
        return lambda block, h: seen[part].setdefault(block, set()).add(h.shape[1])

    handles = [*watch(net, "attn", note("attention")), *watch(net, "mlp", note("mlp"))]
    _, run = sample(TokenMerging("R2", ratio, parts), net)
    for handle in handles:
        handle.remove()
    whole = 16 + net.num_extras
    for part, blocks in seen.items():
        for block, found in blocks.items():
            merged = part in parts and block >= net.num_blocks - 2
            assert found == {whole - num_merged if merged else whole}
    assert all((blocks == net.num_blocks).all() for blocks in run.blocks)


@everywhere
def test_seeds_draw_the_destinations(net):
    def images(**options):
        return sample(TokenMerging("all", 0.4, **options), net)[0]

    fixed = images()
    assert torch.equal(images(seed=5), fixed)
    drawn = images(random=True, seed=5)
    torch.manual_seed(17)  # nothing is drawn from torch's own generator
    assert torch.equal(images(random=True, seed=5), drawn)
    assert not torch.equal(images(random=True, seed=6), drawn)
    assert not torch.equal(fixed, drawn)


@everywhere
def test_images_do_not_depend_on_the_rest_of_the_batch(net):
    method = TokenMerging("all", 0.4, random=True)
    many, _ = sample(method, net, num=5)
    torch.testing.assert_close(sample(method, net, num=1)[0], many[:1], rtol=1e-4, atol=1e-3)


# ---- mistakes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("all", range(9)),
        ("F4", range(4)),
        ("R2", (7, 8)),
        ("B8", (0, 1, 2, 3, 5, 6, 7, 8)),
        ("B2", (0, 8)),
        ("F0", ()),
    ],
)
def test_texts_name_blocks(text, blocks):
    assert merged_blocks(text, 9) == set(blocks)


@pytest.mark.parametrize("text", ["B3", "4", "f4", "F", "some", "F4 ", ""])
def test_texts_that_name_no_blocks(text):
    with pytest.raises(ConfigError, match="must be all, F or R and a number, or B and an even"):
        TokenMerging(text, 0.5)


def test_arguments_out_of_range():
    with pytest.raises(ConfigError, match=r"ratio of token merging must be in \[0, 1\], got 1.5"):
        TokenMerging("all", 1.5)
    with pytest.raises(ConfigError, match="parts of token merging must be"):
        TokenMerging("all", 0.5, ("heads",))


def test_networks_that_do_not_fit():
    with pytest.raises(ConfigError, match="in B8 needs 8 blocks, but the network has 5"):
        TokenMerging("B8", 0.5).begin(NETS["dit"], TIMES, guided=False)
    odd = make_dit(input_size=6)
    with pytest.raises(ConfigError, match=r"even number .* the network has 3 x 3 patches"):
        TokenMerging("all", 0.5).begin(odd, TIMES, guided=False)

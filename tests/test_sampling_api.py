"""``schedsearch.load_backbone`` and ``schedsearch.sample``."""

import math

import pytest
import torch
from tiny_runs import TINY, write_space

import schedsearch
from schedsearch.backbones.registry import build_backbone
from schedsearch.exceptions import ConfigError
from schedsearch.settings import BackboneSettings


@pytest.fixture(scope="module")
def net():
    return schedsearch.load_backbone(TINY["backbone"])


D3 = schedsearch.ExitSchedule((10, 10, 9, 9, 7, 7, 6, 6, 4, 4))


def test_a_file_its_section_and_a_shipped_name_are_the_same(net, tmp_path) -> None:
    for space in (write_space(tmp_path), str(write_space(tmp_path)), "digits_dit"):
        other = schedsearch.load_backbone(space)
        assert not other.training
        for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_other_weights_take_the_place_of_the_checkpoint(net, tmp_path) -> None:
    from schedsearch.backbones.weights.checkpoint import save_weights

    other = build_backbone(BackboneSettings(family="dit", config=TINY["backbone"]["config"]))
    save_weights(other, tmp_path / "fast.safetensors", {})
    loaded = schedsearch.load_backbone("digits_dit", weights=tmp_path / "fast.safetensors")
    pairs = zip(other.parameters(), loaded.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    space = write_space(tmp_path)
    space.write_text(space.read_text().replace("checkpoint: package:", "checkpoint: /gone/"))
    with pytest.raises(ConfigError, match="does not exist"):
        schedsearch.load_backbone(space)
    assert schedsearch.load_backbone(space, weights=tmp_path / "fast.safetensors")
    with pytest.raises(ConfigError, match="missing"):
        schedsearch.load_backbone("digits_dit", weights=tmp_path / "missing.safetensors")


def test_the_call_of_the_contract(net) -> None:
    x, y = torch.randn(4, 1, 8, 8), torch.arange(4)
    t = torch.tensor([0, 350, 650, 999])
    with torch.no_grad():
        eps = net(x, t, y, exit_depth=D3.depths_at(t))
        for i in range(4):
            alone = net(x[i : i + 1], t[i : i + 1], y[i : i + 1], exit_depth=D3.depth_at(t[i]))
            torch.testing.assert_close(eps[i : i + 1], alone, atol=1e-5, rtol=1e-4)
    assert eps.shape == x.shape


@pytest.mark.parametrize("solver", ["ddim", "dpm_solver"])
def test_samples(net, solver: str) -> None:
    images = schedsearch.sample(net, D3, solver=solver, num_steps=5, num=6, seed=1)
    assert images.shape == (6, 1, 8, 8)
    assert images.dtype == torch.float32
    again = schedsearch.sample(net, D3, solver=solver, num_steps=5, num=3, seed=1, batch_size=2)
    torch.testing.assert_close(again, images[:3], atol=1e-4, rtol=1e-4)
    other = schedsearch.sample(net, D3, solver=solver, num_steps=5, num=3, seed=2)
    assert not torch.allclose(other, images[:3])
    full = schedsearch.ExitSchedule.flat(10)
    deeper = schedsearch.sample(net, full, solver=solver, num_steps=5, num=3, seed=1)
    assert not torch.allclose(deeper, images[:3])


def test_samples_are_those_of_ddim_written_out(net) -> None:
    """Song et al. 2021, Eq. 12, with the linear betas and linspace times of the shipped model."""
    noise = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    bars = (1 - betas).cumprod(0).tolist()
    x, labels = noise.double(), torch.tensor([0, 1, 2])
    times = (999, 749, 500, 250, 0)
    for t, later in zip(times, (*times[1:], None), strict=True):
        depth = D3.depths[t // 100]
        with torch.no_grad():
            eps = net(x.float(), torch.full((3,), float(t)), labels, exit_depth=depth).double()
        x0 = (x - math.sqrt(1 - bars[t]) * eps) / math.sqrt(bars[t])
        after = 1.0 if later is None else bars[later]
        x = math.sqrt(after) * x0 + math.sqrt(1 - after) * eps
    found = schedsearch.sample(net, D3, solver="ddim", num_steps=5, noise=noise)
    torch.testing.assert_close(found, x.float(), atol=1e-4, rtol=1e-4)


def test_labels_guidance_and_noise(net) -> None:
    noise = torch.randn(3, 1, 8, 8)

    def run(**changes):
        return schedsearch.sample(net, D3, num_steps=3, noise=noise, **changes)

    threes = run(labels=torch.tensor([3, 3, 3]))
    assert not torch.allclose(threes, run(labels=torch.tensor([4, 4, 4])))
    assert not torch.allclose(threes, run(labels=torch.tensor([3, 3, 3]), cfg_scale=3.0))
    torch.testing.assert_close(run(), run(labels=torch.tensor([0, 1, 2])))


@pytest.mark.parametrize("num_labels", [1, 5])
def test_labels_are_one_per_image(net, num_labels: int) -> None:
    labels = torch.full((num_labels,), 3)
    with pytest.raises(ValueError, match=rf"\(4,\), got \({num_labels},\)"):
        schedsearch.sample(net, D3, num_steps=2, num=4, labels=labels)


def test_a_schedule_that_is_too_deep(net) -> None:
    with pytest.raises(ValueError, match="runs up to 28 blocks, but the network has 10"):
        schedsearch.sample(net, schedsearch.ExitSchedule.flat(28))


UVIT = {"img_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": 16, "depth": 4, "num_heads": 2}


def test_guidance_must_fit_the_network(net) -> None:
    noise = torch.randn(2, 1, 8, 8)
    for scale in (1.0, 2.0):
        with pytest.raises(ConfigError, match="at most the network's 1 channels, got 2"):
            schedsearch.sample(net, D3, noise=noise, cfg_scale=scale, cfg_channels=2)
    one = schedsearch.sample(net, D3, num_steps=2, noise=noise, cfg_scale=2.0, cfg_channels=1)
    every = schedsearch.sample(net, D3, num_steps=2, noise=noise, cfg_scale=2.0)
    assert torch.equal(one, every)  # its one channel is all of them
    assert not torch.allclose(one, schedsearch.sample(net, D3, num_steps=2, noise=noise))


@pytest.mark.parametrize("num_classes", [-1, 10], ids=["no classes", "no null class"])
def test_guidance_needs_a_label_for_no_class(num_classes: int) -> None:
    config = {**UVIT, "num_classes": num_classes}
    uvit = build_backbone(BackboneSettings(family="uvit", config=config)).eval()
    schedule = schedsearch.ExitSchedule.flat(1)
    for labels in (None, torch.tensor([0, 1]) if num_classes > 0 else None):
        with pytest.raises(ConfigError, match=r"cfg_scale=2 needs labels and .*'no class'"):
            schedsearch.sample(uvit, schedule, num=2, labels=labels, cfg_scale=2.0)
    assert schedsearch.sample(uvit, schedule, num=2, num_steps=2).shape == (2, 1, 8, 8)


def test_a_section_with_a_mistake() -> None:
    with pytest.raises(ConfigError, match="familly"):
        schedsearch.load_backbone({"familly": "dit"})


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("batch_size", -1),
        ("batch_size", 0),
        ("batch_size", 2.0),
        ("num", 0),
        ("num", True),
        ("num", "3"),
        ("seed", -1),
        ("seed", None),
        ("labels", torch.tensor([0.5, 1.0])),
        ("labels", torch.tensor([True, False])),
        ("labels", [0, 1]),
        ("labels", torch.tensor([0, 10])),
        ("labels", torch.tensor([-1, 0])),
        ("noise", torch.full((2, 1, 8, 8), math.nan)),
        ("noise", torch.zeros(2, 1, 8, 8, dtype=torch.int64)),
        ("noise", torch.zeros(2, 1, 4, 4)),
        ("noise", torch.zeros(0, 1, 8, 8)),
        ("noise", [[1.0]]),
        ("schedule", (10,) * 10),
        ("schedule", "ASE-DiT-D3"),
        ("net", torch.nn.Linear(2, 2)),
    ],
)
def test_an_argument_of_another_type_or_range_is_named(net, argument: str, value: object) -> None:
    arguments = {"net": net, "schedule": D3, "num": 2, "num_steps": 2, argument: value}
    with pytest.raises((ValueError, ConfigError), match=argument):
        schedsearch.sample(**arguments)


def test_samples_that_are_not_finite_are_no_result(net) -> None:
    import copy

    broken = copy.deepcopy(net)
    with torch.no_grad():
        next(broken.parameters()).fill_(math.inf)
    with pytest.raises(ConfigError, match="3 of 3 samples are not finite"):
        schedsearch.sample(broken, D3, num=3, num_steps=2)


def test_a_device_that_is_not_there() -> None:
    for device in ("cuda:99", "gpu", 3.5):
        with pytest.raises(ConfigError, match="device"):
            schedsearch.load_backbone(TINY["backbone"], device=device)


def test_what_the_weights_say_of_themselves_holds_here_too(tmp_path) -> None:
    net = build_backbone(BackboneSettings(family="dit", config=TINY["backbone"]["config"]))
    torch.save({"ema": net.state_dict(), "args": {"prediction": "v"}}, tmp_path / "net.pt")
    loaded = schedsearch.load_backbone(TINY["backbone"], weights=tmp_path / "net.pt")
    with pytest.raises(ConfigError, match="prediction v"):
        schedsearch.sample(loaded, D3, num=1, num_steps=2)
    as_v = {"num": 1, "num_steps": 2, "diffusion": {"prediction": "v"}}
    expected = schedsearch.sample(net.eval(), D3, **as_v)
    assert torch.equal(schedsearch.sample(loaded, D3, **as_v), expected)

"""Method files of schedules whose exits run through adapters."""

from pathlib import Path
from typing import Any

import pytest
import torch

import schedsearch
from schedsearch.backbones.weights.checkpoint import save_weights
from schedsearch.exceptions import ConfigError
from schedsearch.methods.loading import load_method
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings import DiffusionSettings
from tests.backbones.small_models import make_dit
from tests.methods.exits.test_with_adapters import with_maps
from tests.methods.test_method_loading import sample, write

DEPTHS = [5, 4, 3, 2, 2]
NETWORK = {"adapters": {"exits": [2, 3, 4]}}


def write_adapted(folder: Path, **changes: Any) -> Path:
    save_weights(with_maps(make_dit(), [2, 3, 4]), folder / "w.safetensors")
    content = {
        "numbers": {"depths": DEPTHS},
        "network": NETWORK,
        "weights": "w.safetensors",
        **changes,
    }
    return write(folder, "schedule", **content)


def test_it_samples_as_the_network_that_was_saved(tmp_path: Path) -> None:
    loaded = load_method(write_adapted(tmp_path))
    assert loaded.changes_network
    expected = sample(with_maps(make_dit(), [2, 3, 4]), ExitSchedule(tuple(DEPTHS)))
    assert torch.equal(sample(loaded.network(make_dit().eval()), loaded), expected)


def test_python_samples_with_the_maps_on_the_plain_network_too(tmp_path: Path) -> None:
    method, plain = schedsearch.load_method(write_adapted(tmp_path)), make_dit().eval()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    options: dict[str, Any] = {"solver": "ddim", "num_steps": 3, "num": 4}
    images = schedsearch.sample(plain, method, **options)
    with_network = schedsearch.sample(method.network(make_dit().eval()), method, **options)
    assert torch.equal(images, with_network)
    assert not torch.equal(images, schedsearch.sample(plain, method.method, **options))
    assert all(torch.equal(before[name], value) for name, value in plain.state_dict().items())


def test_the_process_of_the_backbone_stays(tmp_path: Path) -> None:
    method = schedsearch.load_method(write_adapted(tmp_path))
    plain: Any = make_dit().eval()
    options: dict[str, Any] = {"solver": "ddim", "num_steps": 3, "num": 2}
    v = schedsearch.sample(plain, method, **options, diffusion={"prediction": "v"})
    plain._schedsearch_diffusion = DiffusionSettings(prediction="v")
    assert torch.equal(schedsearch.sample(plain, method, **options), v)
    assert torch.equal(schedsearch.sample(method.network(plain), method, **options), v)


def test_a_plain_network_is_refused_by_everything_below(tmp_path: Path) -> None:
    loaded = load_method(write_adapted(tmp_path))
    for net in (make_dit().eval(), with_maps(make_dit(), [2, 3])):
        with pytest.raises(ConfigError, match=r"needs its own network\. Build it"):
            sample(net, loaded)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": None}, "the file names no weights that hold them"),
        ({"network": {"adapters": {"exits": [2, 4]}}}, "no exit adapter for depth 3, which"),
        ({"network": {"adapters": {"exits": []}}}, "exits: must be a list of at least 1"),
        ({"network": {"adapters": {}}}, "exits: required key is missing"),
        ({"network": {"adapters": True}}, "adapters: must be"),
        ({"network": {"adapters": {"exits": [2, 3, 4], "time": 1}}}, "time: unknown key"),
    ],
)
def test_files_that_lack_something(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    file = write_adapted(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load_method(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_an_exit_that_the_backbone_lacks(tmp_path: Path) -> None:
    network = {"adapters": {"exits": [2, 3, 4, 7]}}
    with pytest.raises(ConfigError, match=r"below full depth, here 1 to 4, got 7\."):
        load_method(write_adapted(tmp_path, network=network)).network(make_dit())

import hashlib

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from schedsearch.evaluation.features import build_extractor
from schedsearch.evaluation.features.inception import WEIGHTS_FILE, WEIGHTS_SHA256
from schedsearch.exceptions import CheckpointError, ConfigError


class _Layers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).repeat(1, 683)[:, :2048]


class _StandIn(nn.Module):
    """The shape of FID's TorchScript file: ``base.layers`` maps normalised images to 2048."""

    def __init__(self):
        super().__init__()
        self.layers = _Layers()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / WEIGHTS_FILE
    torch.jit.script(_StandIn()).save(path)
    return path


def _pinned(path):
    return f"{path}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_features_equal_clean_fids_own_path(weights):
    from cleanfid.inception_torchscript import InceptionV3W
    from cleanfid.resize import build_resizer

    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (3, 3, 20, 24), dtype=np.uint8)
    )
    extractor = build_extractor("inception", _pinned(weights))
    features = extractor(images)
    resize = build_resizer("clean")
    resized = np.stack([resize(image.permute(1, 2, 0).numpy()) for image in images])
    net = InceptionV3W(str(weights.parent), download=False)
    expected = net(torch.from_numpy(resized.transpose(0, 3, 1, 2)))
    assert features.shape == (3, 2048)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, expected)


def test_grey_images_are_repeated(weights):
    extractor = build_extractor("inception", _pinned(weights))
    grey = torch.full((2, 1, 8, 8), 192, dtype=torch.uint8)
    torch.testing.assert_close(extractor(grey), extractor(grey.repeat(1, 3, 1, 1)))
    torch.testing.assert_close(extractor(grey), torch.full((2, 2048), 0.5))


def test_a_folder_and_another_file_name_will_do(weights, tmp_path):
    digest = _pinned(weights).rpartition("=")[2]
    assert build_extractor("inception", f"{weights.parent}#sha256={digest}").sha256 == digest
    renamed = tmp_path / "other.pt"
    renamed.write_bytes(weights.read_bytes())
    assert build_extractor("inception", _pinned(renamed)).sha256 == digest


def test_an_unpinned_file_is_refused_before_it_is_loaded(weights, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", lambda *_: pytest.fail("loaded an unchecked file"))
    with pytest.raises(CheckpointError, match=f"expected {WEIGHTS_SHA256}"):
        build_extractor("inception", str(weights))


def test_a_pinned_file_that_is_no_torchscript_is_refused(tmp_path):
    junk = tmp_path / "junk.pt"
    junk.write_bytes(b"\x80not a zip")
    with pytest.raises(CheckpointError, match="not the TorchScript Inception"):
        build_extractor("inception", _pinned(junk))


@pytest.mark.parametrize("features", ["inception", "lenet"])
def test_a_file_of_another_kind_is_never_said_to_be_trusted(tmp_path, features):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match="is a Git LFS pointer") as caught:
        build_extractor(features, str(path), "cpu")
    assert "trust" not in str(caught.value)


@pytest.mark.parametrize("path", [None, "missing/inception.pt"])
def test_missing_weights_say_where_to_get_them(path):
    with pytest.raises(ConfigError, match=r"Download https://.*features_path"):
        build_extractor("inception", path)


def test_float_images_are_refused(weights):
    extractor = build_extractor("inception", _pinned(weights))
    with pytest.raises(ValueError, match="uint8"):
        extractor(torch.zeros(1, 3, 8, 8))

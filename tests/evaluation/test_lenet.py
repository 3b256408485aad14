import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from schedsearch.evaluation.features import Classifier, FeatureExtractor, build_extractor
from schedsearch.exceptions import CheckpointError, ConfigError

SHAPES = {  # as in jordanhoare/digit-drawing-prediction, lenet.pth
    "0.weight": (6, 1, 5, 5),
    "0.bias": (6,),
    "3.weight": (16, 6, 5, 5),
    "3.bias": (16,),
    "7.weight": (120, 400),
    "7.bias": (120,),
    "9.weight": (84, 120),
    "9.bias": (84,),
    "11.weight": (10, 84),
    "11.bias": (10,),
}


def weights(seed: int = 0) -> dict[str, Tensor]:
    """Random weights that keep the scale of what flows through them."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator)
        / (np.sqrt(np.prod(shape[1:]) / 2) if len(shape) > 1 else 10)
        for name, shape in SHAPES.items()
    }


def images(count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lenet.pth"
    torch.save(weights(), path)
    return path


def written_out(state: dict[str, Tensor], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Features before their ReLU and logits, in float64."""
    w = {name: value.double() for name, value in state.items()}
    x = pixels.double() / 255
    x = F.avg_pool2d(F.conv2d(x, w["0.weight"], w["0.bias"], padding=2).clamp(min=0), 2)
    x = F.avg_pool2d(F.conv2d(x, w["3.weight"], w["3.bias"]).clamp(min=0), 2)
    x = (x.flatten(1) @ w["7.weight"].T + w["7.bias"]).clamp(min=0)
    x = x @ w["9.weight"].T + w["9.bias"]
    return x, x.clamp(min=0) @ w["11.weight"].T + w["11.bias"]


def test_features_are_those_before_the_last_relu(file: Path) -> None:
    extractor = build_extractor("lenet", str(file))
    features, logits = written_out(weights(), images())
    assert float(features.min()) < 0
    found = extractor(images())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), features, rtol=1e-5, atol=1e-5)
    assert isinstance(extractor, Classifier)
    torch.testing.assert_close(extractor.classify(images()).double(), logits, rtol=1e-5, atol=1e-5)


def test_meets_the_protocol_and_names_its_weights(file: Path) -> None:
    extractor = build_extractor("lenet", str(file))
    assert isinstance(extractor, FeatureExtractor)
    assert (extractor.name, extractor.dim) == ("MNIST LeNet", 84)
    assert extractor.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    torch.save(weights(seed=2), file)
    assert build_extractor("lenet", str(file)).sha256 != extractor.sha256


def test_reads_safetensors_too(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "lenet.safetensors"
    save_file(weights(), other)
    first, second = (build_extractor("lenet", str(path)) for path in (file, other))
    assert torch.equal(first(images()), second(images()))


class Code:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b""), "lenet.pth"),
        (lambda path: path.write_bytes(b"<html>"), "lenet.pth is a web page"),
        (lambda path: torch.save(Code(), path), "lenet.pth is not the state dict"),
        (lambda path: torch.save([1, 2], path), "lenet.pth does not hold a state dict"),
        (lambda path: torch.save({"0.weight": torch.zeros(1)}, path), "size mismatch|Missing key"),
        (lambda path: torch.save(weights() | {"12.bias": torch.zeros(1)}, path), r"12\.bias"),
        (
            lambda path: torch.save(weights() | {"9.weight": torch.zeros(84, 84)}, path),
            "size mismatch",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "is not the state dict"),
    ],
)
def test_other_files_are_refused(
    file: Path, capsys, write: Callable[[Path], object], message: str
) -> None:
    write(file)
    with pytest.raises(CheckpointError, match=message):
        build_extractor("lenet", str(file))
    assert "code ran" not in capsys.readouterr().out


def test_damaged_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "lenet.safetensors"
    path.write_bytes(b"\x00cut off")
    with pytest.raises(CheckpointError, match=r"lenet\.safetensors is not the state dict"):
        build_extractor("lenet", str(path))


def test_missing_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs evaluation\.features_path"):
        build_extractor("lenet", None)
    with pytest.raises(ConfigError, match=r"Cannot read the LeNet weights .*nowhere"):
        build_extractor("lenet", str(tmp_path / "nowhere"))


def test_other_images_are_refused(file: Path) -> None:
    extractor = build_extractor("lenet", str(file))
    with pytest.raises(ValueError, match=r"\(N, 1, 28, 28\)"):
        extractor(torch.zeros(2, 1, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="uint8"):
        extractor(torch.zeros(2, 1, 28, 28))

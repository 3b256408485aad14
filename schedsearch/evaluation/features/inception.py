"""Inception features of clean-fid's mode "clean" (Parmar et al., 2022).

Only clean-fid's resizer and network wrapper are used. Its download has no checksum, and its
distance hangs on NaN and fails with new SciPy versions.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import warnings
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.files.content import kind_of

WEIGHTS_FILE = "inception-2015-12-05.pt"
"""The file name that clean-fid's wrapper opens."""

WEIGHTS_URL = (
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/" + WEIGHTS_FILE
)

WEIGHTS_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""Pinned SHA-256 of the 95,607,719 bytes at WEIGHTS_URL.

Source: ``InceptionV3FeatureExtractor`` in crowsonkb/k-diffusion, k_diffusion/evaluation.py, which
checks the same URL. The Git LFS pointers of hngan/webui-models on huggingface.co (commit 1686c49)
agree.
"""

_PINNED_PATH = re.compile(r"(?P<path>.*)#sha256=(?P<sha256>[0-9a-fA-F]{64})", re.DOTALL)


class InceptionExtractor:
    """FID's Inception v3 (2015-12-05), 2048 features; see :class:`FeatureExtractor`.

    Args:
        net: clean-fid's network with its weights.
        sha256: Digest of the weights file.
        device: Device of the network.
    """

    name = "Inception v3 (clean-fid)"
    dim = 2048

    def __init__(self, net: nn.Module, sha256: str, device: torch.device | str) -> None:
        from cleanfid.resize import build_resizer

        self.sha256 = sha256
        self.device = torch.device(device)
        self._net = net.to(self.device)
        self._resize = build_resizer("clean")

    @classmethod
    def load(cls, features_path: str | None, device: torch.device | str = "cpu") -> Self:
        """Load the weights; nothing is downloaded.

        The file is TorchScript, which is code. So it loads only with the pinned digest, and
        from a private copy that nobody can change after the check.

        Args:
            features_path: The weights file or its folder. ``FILE#sha256=DIGEST`` accepts
                another file with the given digest.
            device: Device of the network.

        Raises:
            ConfigError: If the path is None or no file is there.
            CheckpointError: If the digest differs or the file is not TorchScript.
        """
        path, expected = _resolve(features_path)
        try:
            found, data = kind_of(path), path.read_bytes()
        except OSError as error:
            raise ConfigError(f"Cannot read the Inception weights {path}: {error}.") from error
        if found is not None:
            raise CheckpointError(f"{path} is {found[0]}, not Inception weights. {found[1]}.")
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 != expected:
            raise CheckpointError(
                f"{path} has sha256 {sha256}, expected {expected}: it is damaged or another "
                f"file. Download {WEIGHTS_URL} again, or trust this file by writing "
                f"evaluation.features_path: {path}#sha256={sha256}"
            )
        return cls(_read(data, path), sha256, device)

    def __call__(self, images: Tensor) -> Tensor:
        """Compute pool features: images (N, 1 or 3, H, W) uint8 -> (N, 2048) float32.

        Grey images are repeated to three channels.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(
                "Inception takes uint8 images of shape (N, 1 or 3, H, W), but got "
                f"{images.dtype} {tuple(images.shape)}."
            )
        rgb = images.cpu().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()  # NHWC
        resized = np.stack([self._resize(image) for image in rgb])  # [0, 255], not rounded
        batch = torch.from_numpy(resized).permute(0, 3, 1, 2).to(self.device)
        with torch.inference_mode():
            features: Tensor = self._net(batch)
        return features.float()


def _resolve(features_path: str | None) -> tuple[Path, str]:
    """Return the weights file and its required digest."""
    where = f"Download {WEIGHTS_URL} and set evaluation.features_path to the file."
    if features_path is None:
        raise ConfigError(f"features: inception needs a weights file. {where}")
    expected = WEIGHTS_SHA256
    if match := _PINNED_PATH.fullmatch(features_path):
        features_path, expected = match["path"], match["sha256"].lower()
    path = Path(features_path)
    if path.is_dir():
        path = path / WEIGHTS_FILE
    if not path.is_file():
        raise ConfigError(f"No Inception weights at {path}. {where}")
    return path, expected


def _read(data: bytes, path: Path) -> nn.Module:
    from cleanfid.inception_torchscript import InceptionV3W

    with tempfile.TemporaryDirectory(prefix="schedsearch-") as folder:
        (Path(folder) / WEIGHTS_FILE).write_bytes(data)
        try:
            with warnings.catch_warnings():
                # NOTE: clean-fid uses the deprecated torch.jit; users cannot change that.
                warnings.simplefilter("ignore", FutureWarning)
                net: nn.Module = InceptionV3W(folder, download=False, resize_inside=False)
        except (RuntimeError, AttributeError) as error:
            raise CheckpointError(
                f"{path} is not the TorchScript Inception of FID: {error}"
            ) from error
    return net.eval().requires_grad_(False)

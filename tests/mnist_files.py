"""torchvision's folder of MNIST, with images of one's own in it."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np


def idx(array: np.ndarray) -> bytes:
    """The idx format: two zero bytes, 8 for uint8, the number of axes, then the sizes."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_split(root: Path, split: str, images: np.ndarray, labels: np.ndarray) -> dict[str, str]:
    """Write both archives of ``train`` or ``t10k``; returns their part of ``mnist.CONTENTS``."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        name, content = f"{split}-{kind}-ubyte", idx(array)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests

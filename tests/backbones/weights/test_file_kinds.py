"""Files that hold no weights are called what they are, whatever their ending."""

import gzip
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from schedsearch.backbones.weights.checkpoint import load_weights
from schedsearch.exceptions import CheckpointError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 27\n"


def write(path: Path, kind: str) -> None:
    if kind == "gzip":
        path.write_bytes(gzip.compress(b"weights" * 99))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("net.safetensors", b"x")
    elif kind == "tar":
        with tarfile.open(path, "w") as archive:
            archive.addfile(tarfile.TarInfo("net.pt"))
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    else:
        path.write_bytes(
            {
                "lfs": POINTER,
                "html": b"\n<!DOCTYPE html><html>login",
                "text": "Zugriff verweigert: ä\x1b".encode().replace(b"\x1b", b""),
                "json": json.dumps({"error": "not found"}).encode(),
                "zeros": bytes(9999),
            }[kind]
        )


@pytest.mark.parametrize("ending", [".pt", ".safetensors", ".bin"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("lfs", "Git LFS pointer.*git lfs pull"),
        ("html", "a web page"),
        ("text", "a text file that begins with 'Zugriff"),
        ("json", "a text file"),
        ("gzip", "a gzip file.*Unpack"),
        ("tar", "a tar archive.*Unpack"),
        ("zip", "a zip archive that torch did not write"),
        ("npy", "a NumPy array"),
        ("zeros", "filled with zero bytes"),
    ],
)
def test_what_a_file_really_is(tmp_path: Path, ending: str, kind: str, said: str) -> None:
    path = tmp_path / f"net{ending}"
    write(path, kind)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_weights(nn.Linear(2, 1), path)
    assert "cut off" not in str(caught.value)
    assert "run code" not in str(caught.value)


def test_weights_are_read_by_content_not_by_ending(tmp_path: Path) -> None:
    net = nn.Linear(2, 1)
    save_file(net.state_dict(), tmp_path / "a.pt")
    torch.save(net.state_dict(), tmp_path / "b.safetensors")
    for name in ("a.pt", "b.safetensors"):
        other = nn.Linear(2, 1)
        load_weights(other, tmp_path / name)
        assert torch.equal(other.weight, net.weight)


def test_a_damaged_pickle_is_not_said_to_run_code(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(nn.Linear(2, 1).state_dict(), path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CheckpointError, match="may be cut off") as caught:
        load_weights(nn.Linear(2, 1), path)
    assert "run code" not in str(caught.value)


def test_a_zip_archive_with_a_damaged_list_of_files(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(nn.Linear(2, 1).state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"PK\x01\x02", b"PK\x01\x00"))
    with pytest.raises(CheckpointError, match=r"a damaged zip archive.*copy or download it again"):
        load_weights(nn.Linear(2, 1), path)

"""Files that hold no weights are called what they are, whatever their ending."""

import gzip
import json
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from schedsearch.backbones.weights.checkpoint import load_weights, save_weights
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
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, weight=np.ones((1, 2), np.float32))
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
                "picture": b"\x89PNG\r\n\x1a\n" + bytes(99),
                "database": b"SQLite format 3\x00" + bytes(99),
                "utf-16": "<html>login</html>".encode("utf-16"),
                "latin page": "<html><title>\xe9".encode("latin-1"),
                "comment": b"<!-- x -->\n<html>",
                "marked page": b"\xef\xbb\xbf<!DOCTYPE html>",
                "xet": b"# xet version 0\n",
                "lzma": lzma.compress(b"weights", format=lzma.FORMAT_ALONE),
                "onnx": b"\x08\x07\x12\x07pytorch" + bytes(range(250)),
                "three": b"\x10\x00\x00",
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
        ("zip", "a zip archive without tensors or arrays.*Unpack"),
        ("npz", "a NumPy archive.*state dict"),
        ("picture", "a picture"),
        ("database", "a SQLite database"),
        ("utf-16", "a web page"),
        ("latin page", "a web page"),
        ("comment", "a web page"),
        ("marked page", "a web page"),
        ("xet", "a Git LFS pointer"),
        ("lzma", "an lzma file.*Unpack"),
        ("onnx", r"neither safetensors nor a file of torch: it begins with b'\\x08"),
        ("three", "neither safetensors nor a file of torch"),
        ("npy", "a NumPy array"),
        ("zeros", "filled with zero bytes"),
    ],
)
def test_what_a_file_really_is(tmp_path: Path, ending: str, kind: str, said: str) -> None:
    path = tmp_path / f"net{ending}"
    write(path, kind)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_weights(nn.Linear(2, 1), path)
    assert "pickle" not in str(caught.value)
    assert "run code" not in str(caught.value)


def test_weights_are_read_by_content_not_by_ending(tmp_path: Path) -> None:
    net = nn.Linear(2, 1)
    save_file(net.state_dict(), tmp_path / "a.pt")
    torch.save(net.state_dict(), tmp_path / "b.safetensors")
    save_file(net.state_dict(), tmp_path / "c.SAFETENSORS")
    torch.save(net.state_dict(), tmp_path / "d.SafeTensors")
    for name in ("a.pt", "b.safetensors", "c.SAFETENSORS", "d.SafeTensors"):
        other = nn.Linear(2, 1)
        load_weights(other, tmp_path / name)
        assert torch.equal(other.weight, net.weight)


@pytest.mark.parametrize("name", ["w.safetensors", "w.SAFETENSORS", "w.pt", "w"])
def test_a_fingerprint_is_checked_whatever_the_ending(tmp_path: Path, name: str) -> None:
    save_weights(nn.Linear(2, 1), tmp_path / "saved.safetensors")
    content = bytearray((tmp_path / "saved.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged: its values are not those"):
        load_weights(nn.Linear(2, 1), tmp_path / name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pipe", "is a device or pipe, not a file"),
        ("/dev/zero", "is a device or pipe, not a file"),
        ("lost", "is a link to nothing"),
        ("circle", "is a link to nothing"),
        ("x" * 300, "File name too long"),
        ("", "name of the checkpoint is empty"),
        ("folder", r"name one of its files: ema/, net\.PT, net\.safetensors\."),
        ("empty", "name the file of weights"),
    ],
)
def test_a_path_that_is_no_file_is_called_what_it_is(tmp_path: Path, name: str, said: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "lost").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder" / "ema").mkdir(parents=True)
    for inner in ("ema/config.json", "net.PT", "net.safetensors", "log.txt"):
        (tmp_path / "folder" / inner).write_text("{}")
    with pytest.raises(CheckpointError, match=said):
        load_weights(nn.Linear(2, 1), tmp_path / name if name else "")


def test_pipes_beside_weights_are_not_opened(tmp_path: Path) -> None:
    save_file(nn.Linear(2, 1).state_dict(), tmp_path / "net.safetensors")
    for name in ("config.json", "hparams.yaml", "model.index.json"):
        os.mkfifo(tmp_path / name)
    load_weights(nn.Linear(2, 1), tmp_path / "net.safetensors")


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

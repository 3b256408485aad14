import hashlib
import pickle
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from schedsearch.data import cifar10
from schedsearch.data.loading import load_reference_source, load_source
from schedsearch.exceptions import ConfigError
from schedsearch.settings import DataSettings

SHAPE = (3, 32, 32)
ROWS = 4


def batch_file(number: int) -> bytes:
    """A batch in the bytes of the published files: a pickle of Python 2 and its NumPy."""
    pixels = np.random.default_rng(number).integers(0, 256, (ROWS, 3072), dtype=np.uint8)
    labels = b"".join(b"K" + bytes([(number + row) % 10]) for row in range(ROWS))
    return (
        b"\x80\x02}(U\x06labels](" + labels + b"eU\x04datacnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K" + bytes([ROWS]) + b"M\x00\x0c\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89T" + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tbu."
    )


def publish(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> None:
    """Take these files for the published ones."""
    digests = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(cifar10, "CONTENTS", digests)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    contents = {f"data_batch_{number}": batch_file(number) for number in range(1, 6)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    publish(monkeypatch, contents)
    return tmp_path


def settings(root: Path) -> DataSettings:
    return DataSettings(source="cifar10", path=str(root))


def test_all_batches_in_order_with_their_labels(root: Path) -> None:
    source = load_source(settings(root), SHAPE)
    assert (source.num_images, source.num_classes) == (5 * ROWS, 10)
    expected = [
        np.random.default_rng(number).integers(0, 256, (ROWS, *SHAPE), dtype=np.uint8)
        for number in range(1, 6)
    ]
    assert np.array_equal(
        torch.cat(list(source.uint8_batches(6))).numpy(), np.concatenate(expected)
    )
    assert source.labels.tolist() == [  # type: ignore[attr-defined]
        (number + row) % 10 for number in range(1, 6) for row in range(ROWS)
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_test_images_are_a_reference(
    root: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    content = batch_file(9)
    digest = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(cifar10, "TEST_CONTENTS", {"test_batch": digest})
    folder = root / "cifar-10-batches-py"
    (folder / "test_batch").write_bytes(content)
    if packed:
        with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as tar:
            tar.add(folder, folder.name)
        shutil.rmtree(folder)
    apart = DataSettings(source="cifar10", path=str(root), reference_split="test")
    source = load_source(apart, SHAPE)
    assert source.num_images == 5 * ROWS
    reference = load_reference_source(apart, source, SHAPE)
    expected = np.random.default_rng(9).integers(0, 256, (ROWS, *SHAPE), dtype=np.uint8)
    assert np.array_equal(torch.cat(list(reference.uint8_batches(3))).numpy(), expected)
    if not packed:
        (folder / "test_batch").write_bytes(content[:-1])
        with pytest.raises(ConfigError, match=r"test_batch.*not the published"):
            load_reference_source(apart, source, SHAPE)


def test_the_archive_is_read_as_it_is(root: Path) -> None:
    unpacked = load_source(settings(root), SHAPE).fingerprint
    folder = root / "cifar-10-batches-py"
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(folder, folder.name)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert load_source(settings(root), SHAPE).fingerprint == unpacked
    assert not folder.exists()


def test_missing_and_damaged_files(root: Path) -> None:
    file = root / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ConfigError, match=r"data_batch_3.*not the published"):
        load_source(settings(root), SHAPE)
    file.unlink()
    with pytest.raises(ConfigError, match=r"data_batch_3.*does not exist.*download=True"):
        load_source(settings(root), SHAPE)


def test_damaged_archive(root: Path) -> None:
    archive = root / "empty" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(b"not an archive")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_source(settings(archive.parent), SHAPE)
    with tarfile.open(archive, "w:gz"):
        pass
    with pytest.raises(ConfigError, match=r"lacks cifar-10-batches-py/data_batch_1"):
        load_source(settings(archive.parent), SHAPE)


class Code:
    def __reduce__(self):
        return print, ("code ran",)


def test_code_in_a_pickle_never_runs(root, monkeypatch, capsys) -> None:
    # Even with the right digest, so that not all hangs on md5.
    contents = {f"data_batch_{number}": pickle.dumps(Code()) for number in range(1, 6)}
    for name, content in contents.items():
        (root / "cifar-10-batches-py" / name).write_bytes(content)
    publish(monkeypatch, contents)
    with pytest.raises(ConfigError, match=r"builtins\.print.*could run code"):
        load_source(settings(root), SHAPE)
    assert "code ran" not in capsys.readouterr().out


def test_other_shapes_say_what_to_set(root: Path) -> None:
    with pytest.raises(ConfigError, match="in_channels: 3 and input_size: 32"):
        load_source(settings(root), (3, 64, 64))

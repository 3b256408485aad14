import dataclasses
import logging

import numpy as np
import pytest
import torch

from schedsearch.evaluation.real_images import reference as reference_module
from schedsearch.evaluation.real_images.reference import load_or_compute_reference
from schedsearch.exceptions import StorageError


class Source:
    def __init__(self, num=50, fingerprint="sha256:abc"):
        self.images = torch.from_numpy(
            np.random.default_rng(0).integers(0, 256, (num, 1, 4, 4), dtype=np.uint8)
        )
        self.num_images, self.fingerprint, self.num_reads = num, fingerprint, 0

    def uint8_batches(self, batch_size):
        self.num_reads += 1
        yield from self.images.split(min(batch_size, 7))


class Extractor:
    name, dim = "pixels", 16

    def __init__(self, sha256="e" * 64):
        self.sha256 = sha256

    def __call__(self, images):
        return images.float().flatten(1) / 255


def _files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_holds_the_statistics_of_all_images(tmp_path):
    source = Source()
    reference = load_or_compute_reference(source, Extractor(), tmp_path)
    features = source.images.flatten(1).double().numpy() / 255
    np.testing.assert_allclose(reference.mean, features.mean(0), atol=1e-6)
    np.testing.assert_allclose(reference.cov, np.cov(features, rowvar=False), atol=1e-6)
    np.testing.assert_allclose(reference.features, features, atol=1e-6)
    assert reference.num_images == reference.statistics.num_images == 50
    assert reference.pixel_std == pytest.approx((source.images / 127.5 - 1).std(correction=0))


def test_is_read_back_equal_and_computed_once(tmp_path):
    source, folder = Source(), tmp_path / "new" / "cache"
    first = load_or_compute_reference(source, Extractor(), folder)
    again = load_or_compute_reference(source, Extractor(), folder)
    assert source.num_reads == 1
    for field in dataclasses.fields(first):
        one, two = getattr(first, field.name), getattr(again, field.name)
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
    assert first.digest == again.digest
    assert _files(folder) == [f"reference-{first.digest}.safetensors"]


def test_other_data_or_weights_get_a_file_of_their_own(tmp_path):
    made = [
        load_or_compute_reference(Source(), Extractor(), tmp_path),
        load_or_compute_reference(Source(fingerprint="sha256:def"), Extractor(), tmp_path),
        load_or_compute_reference(Source(), Extractor("f" * 64), tmp_path),
    ]
    assert len({reference.digest for reference in made}) == len(_files(tmp_path)) == 3


@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "swap"])
def test_a_damaged_cache_is_noted_and_computed_again(tmp_path, caplog, damage):
    source = Source()
    first = load_or_compute_reference(source, Extractor(), tmp_path)
    path = tmp_path / f"reference-{first.digest}.safetensors"
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flip":
        data[-10] ^= 1
        path.write_bytes(data)
    else:
        other = load_or_compute_reference(Source(fingerprint="sha256:def"), Extractor(), tmp_path)
        path.write_bytes((tmp_path / f"reference-{other.digest}.safetensors").read_bytes())
    with caplog.at_level(logging.WARNING):
        again = load_or_compute_reference(source, Extractor(), tmp_path)
    assert "damaged" in caplog.text
    assert source.num_reads == 2
    assert torch.equal(again.cov, first.cov)
    load_or_compute_reference(source, Extractor(), tmp_path)
    assert source.num_reads == 2, "the damaged file was not replaced"


def test_only_evenly_spaced_features_of_a_large_set_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(reference_module, "MAX_FULL", 20)
    source = Source()
    reference = load_or_compute_reference(source, Extractor(), tmp_path)
    torch.testing.assert_close(reference.features, source.images[::3].float().flatten(1) / 255)
    assert reference.num_images == 50


def test_a_failed_write_leaves_nothing_and_names_the_cache(tmp_path, fill_disk):
    fill_disk()
    with pytest.raises(StorageError, match=r"reference-.*No space left"):
        load_or_compute_reference(Source(), Extractor(), tmp_path)
    assert _files(tmp_path) == []

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from schedsearch.data.latents import LatentSource
from schedsearch.data.loading import (
    check_labels_fit,
    load_decoder,
    load_reference_source,
    load_source,
)
from schedsearch.data.pixels import to_uint8
from schedsearch.evaluation.real_images.neighbours import load_or_compute_neighbours
from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.settings import DataSettings

SHAPE = (4, 4, 4)
SCALE = 0.18215  # of Stable Diffusion's autoencoder, and diffusers' default


def values(count: int, channels: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def open_latents(tmp_path: Path, vae_folder: Path):
    def open_them(path: Path = tmp_path) -> LatentSource:
        settings = DataSettings(source="latents", path=str(path), vae=str(vae_folder))
        source = load_source(settings, SHAPE)
        assert isinstance(source, LatentSource)
        return source

    return open_them


def test_batches_hold_the_stored_latents_with_their_labels(tmp_path, open_latents) -> None:
    first, second = values(5), values(3, seed=1).half()
    save_file({"latents": first, "labels": torch.arange(5)}, tmp_path / "0.safetensors")
    np.savez(tmp_path / "1.npz", latents=second.numpy(), labels=np.arange(5, 8, dtype=np.int32))
    source = open_latents()
    assert (source.num_images, source.num_classes) == (8, 8)
    latents, labels = source.batch(60, torch.Generator().manual_seed(0))
    assert latents.dtype == torch.float32
    assert labels is not None
    assert set(labels.tolist()) == set(range(8))
    assert torch.equal(latents, torch.cat([first, second.float()])[labels])
    assert source.verify() == ()


def test_moments_are_sampled_for_training(tmp_path, open_latents) -> None:
    mean, log_variance = values(2), torch.full((2, 4, 4, 4), -1.0)
    save_file({"moments": torch.cat([mean, log_variance], 1)}, tmp_path / "a.safetensors")
    source = open_latents(tmp_path / "a.safetensors")
    latents, labels = source.batch(4000, torch.Generator().manual_seed(0))
    assert labels is None
    assert source.num_classes is None
    # Two clouds, told apart by the nearer mean.
    expected = mean * SCALE
    nearer = torch.cdist(latents.flatten(1), expected.flatten(1)).argmin(1)
    for row in range(2):
        cloud = latents[nearer == row]
        assert torch.allclose(cloud.mean(0), expected[row], atol=0.02)
        assert float((cloud - expected[row]).std()) == pytest.approx(
            SCALE * np.exp(-0.5), rel=0.02
        )
    again, _ = source.batch(4000, torch.Generator().manual_seed(0))
    assert torch.equal(latents, again)


def test_decodes_as_the_autoencoder_does(tmp_path, vae_folder, open_latents) -> None:
    latents = values(19)
    save_file({"latents": latents}, tmp_path / "a.safetensors")
    source = open_latents()
    vae = AutoencoderKL.from_pretrained(vae_folder, low_cpu_mem_usage=False).eval()
    with torch.no_grad():
        expected = vae.decode(latents / SCALE).sample
    found = source.decode(latents)  # more than are decoded at once
    assert found.shape == (19, 3, 8, 8)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    batches = list(source.uint8_batches(7))
    assert [len(batch) for batch in batches] == [7, 7, 5]
    assert (torch.cat(batches).int() - to_uint8(expected).int()).abs().max() <= 1


def test_the_reference_of_moments_is_their_mean(tmp_path, open_latents) -> None:
    mean = values(3)
    save_file(
        {"moments": torch.cat([mean, torch.zeros_like(mean)], 1)}, tmp_path / "a.safetensors"
    )
    source = open_latents()
    assert torch.equal(next(source.uint8_batches(3)), to_uint8(source.decode(mean * SCALE)))


def test_the_decoder_alone(vae_folder: Path, tmp_path: Path) -> None:
    settings = DataSettings(source="latents", path=str(tmp_path / "gone"), vae=str(vae_folder))
    assert load_decoder(settings)(values(2)).shape == (2, 3, 8, 8)
    pixels = torch.full((2, 1, 8, 8), 1.5, dtype=torch.float64)
    for pixel_settings in (DataSettings(source="digits"), None):
        assert torch.equal(load_decoder(pixel_settings)(pixels), pixels.float())
    with pytest.raises(ConfigError, match=r"needs data\.vae"):
        load_decoder(DataSettings(source="latents", path="x"))


def test_fingerprint_follows_latents_and_autoencoder(tmp_path, vae_folder) -> None:
    def fingerprint(seed: int, vae: Path) -> str:
        path = tmp_path / f"{seed}.safetensors"
        save_file({"latents": values(2, seed=seed)}, path)
        settings = DataSettings(source="latents", path=str(path), vae=str(vae))
        return load_source(settings, SHAPE).fingerprint

    other = tmp_path / "other"
    shutil.copytree(vae_folder, other)
    weights = other / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    state["decoder.conv_out.bias"] += 1
    save_file(state, weights)
    found = [fingerprint(0, vae_folder), fingerprint(1, vae_folder), fingerprint(0, other)]
    assert len(set(found)) == 3
    assert fingerprint(0, vae_folder) == found[0]


GOOD = values(3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"latents": values(3, 8)}, r"\(N, 4, 4, 4\).*8 channels they are moments"),
        ({"moments": GOOD}, r"\(N, 8, 4, 4\).*4 channels they are latents"),
        ({"latents": GOOD, "moments": values(3, 8)}, "either latents or moments"),
        ({"labels": torch.arange(3)}, r"either latents or moments|needs the key 'latents'"),
        ({"latents": (100 * GOOD).to(torch.uint8)}, r"must be float16 or float32.*uint8"),
        ({"latents": GOOD[:, :, :2]}, r"\(3, 4, 2, 4\)"),
        ({"latents": GOOD[:0]}, r"\(0, 4, 4, 4\)"),
        ({"latents": torch.zeros(5)}, r"file has \(5,\)"),
        ({"latents": GOOD, "labels": torch.arange(2)}, "must be 3 integers"),
        ({"latents": GOOD, "labels": torch.arange(3.0)}, "must be 3 integers"),
        ({"latents": GOOD, "labels": torch.arange(3) - 1}, "start at 0"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_that_do_not_fit(tmp_path, open_latents, arrays, message, suffix) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, **{name: array.numpy() for name, array in arrays.items()})
    else:
        save_file({name: array.contiguous() for name, array in arrays.items()}, path)
    with pytest.raises(ConfigError, match=message):
        open_latents(path)


def test_shards_must_agree(tmp_path, open_latents) -> None:
    save_file({"latents": GOOD, "labels": torch.arange(3)}, tmp_path / "0.safetensors")
    save_file({"latents": GOOD}, tmp_path / "1.safetensors")
    with pytest.raises(ConfigError, match="different keys"):
        open_latents()


def test_pickled_features_of_uvit_are_refused(tmp_path, open_latents, capsys) -> None:
    class Code:
        def __reduce__(self):
            return print, ("code ran",)

    np.save(tmp_path / "0.npy", np.array([Code()], dtype=object), allow_pickle=True)
    for path in (tmp_path, tmp_path / "0.npy"):
        with pytest.raises(ConfigError, match=r"pickles and are refused.*save moments"):
            open_latents(path)
    assert "code ran" not in capsys.readouterr().out


def test_a_folder_of_shards_leaves_nothing_out_in_silence(tmp_path, open_latents, caplog) -> None:
    np.savez(tmp_path / "0.npz", latents=GOOD.numpy().astype(">f4"))
    with (tmp_path / "1.NPZ").open("wb") as file:
        np.savez(file, latents=GOOD.numpy())
    save_file({"latents": GOOD}, tmp_path / "2.SAFETENSORS")
    (tmp_path / "._0.npz").write_bytes(b"left by another system")
    torch.save({"latents": GOOD}, tmp_path / "3.pt")
    assert open_latents().num_images == 9
    assert open_latents(tmp_path / "2.SAFETENSORS").num_images == 3
    assert "leave out entries" in caplog.text
    assert "1 .pt" in caplog.text
    (tmp_path / "val").mkdir()
    save_file({"latents": GOOD}, tmp_path / "val" / "0.safetensors")
    with pytest.raises(ConfigError, match=r"holds shards in folders \(val\)"):
        open_latents()


def test_labels_of_latents_with_a_gap(tmp_path, open_latents) -> None:
    save_file({"latents": GOOD, "labels": torch.tensor([0, 2, 2])}, tmp_path / "a.safetensors")
    network = SimpleNamespace(num_classes=3)
    (note,) = check_labels_fit(open_latents(), network)  # type: ignore[arg-type]
    assert "No image has the label 1." in note


def test_damaged_and_missing_files(tmp_path, open_latents) -> None:
    with pytest.raises(ConfigError, match="or a folder of them"):
        open_latents()
    for name in ("a.safetensors", "a.npz"):
        (tmp_path / name).write_bytes(b"cut off")
        with pytest.raises(ConfigError, match=rf"{name}.*cannot be read"):
            open_latents(tmp_path / name)


def test_verify_finds_what_is_not_finite(tmp_path, open_latents) -> None:
    broken = torch.cat([values(4), torch.zeros(4, 4, 4, 4)], 1)
    broken[2, 5, 0, 0] = torch.nan  # a log variance, which the reference never reads
    labels = torch.tensor([0, 0, 1, 0])
    save_file({"moments": values(4, 8), "labels": labels}, tmp_path / "0.safetensors")
    save_file({"moments": broken, "labels": labels}, tmp_path / "1.safetensors")
    with pytest.raises(ConfigError, match=r"not finite, the first in .*1\.safetensors"):
        open_latents().verify()


def test_verify_speaks_up_about_unscaled_latents(tmp_path, open_latents) -> None:
    save_file({"latents": values(9) * 5.5}, tmp_path / "a.safetensors")
    (note,) = open_latents().verify()
    assert "deviation of 5." in note
    assert "0.18215" in note


# ---- the autoencoder's folder -----------------------------------------------------------------


@pytest.fixture
def own_vae(tmp_path: Path, vae_folder: Path) -> Path:
    """A copy that a test may harm."""
    return Path(shutil.copytree(vae_folder, tmp_path / "own_vae"))


def decoder(folder: Path):
    return load_decoder(DataSettings(source="latents", path="x", vae=str(folder)))


def test_missing_weights_are_not_made_up(own_vae: Path) -> None:
    weights = own_vae / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    del state["decoder.conv_out.weight"]
    save_file(state, weights)
    with pytest.raises(CheckpointError, match=r"1 missing keys, first decoder\.conv_out\.weight"):
        decoder(own_vae)
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        decoder(own_vae)


def test_only_safetensors_are_read(own_vae: Path) -> None:
    weights = own_vae / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ConfigError, match=r"lacks diffusion_pytorch_model\.safetensors"):
        decoder(own_vae)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shift_factor": 0.1}, "has a shift_factor"),
        ({"_class_name": "UNet2DModel"}, "must be an AutoencoderKL, but is UNet2DModel"),
        ({"latent_channels": 16}, "cannot be loaded|does not fit"),
    ],
)
def test_other_models_are_refused(own_vae: Path, changes, message) -> None:
    file = own_vae / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ConfigError, match=message):
        decoder(own_vae)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json.*subfolder vae"):
        decoder(tmp_path)


def test_channels_of_latents_and_autoencoder_must_agree(tmp_path, vae_folder) -> None:
    save_file({"latents": values(2, 8)}, tmp_path / "a.safetensors")
    settings = DataSettings(source="latents", path=str(tmp_path), vae=str(vae_folder))
    with pytest.raises(ConfigError, match=r"have 8 channels, but data\.vae decodes 4"):
        load_source(settings, (8, 4, 4))


def test_other_latents_are_a_reference_of_the_same_autoencoder(
    tmp_path, vae_folder, open_latents
) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        save_file({"latents": values(5, seed=seed)}, tmp_path / f"{name}.safetensors")
    source = open_latents(tmp_path / "a.safetensors")
    settings = DataSettings(
        source="latents",
        path=str(tmp_path / "a.safetensors"),
        vae=str(vae_folder),
        reference_path=str(tmp_path / "b.safetensors"),
    )
    reference = load_reference_source(settings, source, SHAPE)
    assert isinstance(reference, LatentSource)
    assert reference.decoder is source.decoder
    assert torch.equal(
        next(reference.uint8_batches(5)), to_uint8(source.decode(values(5, seed=1)))
    )


def test_near_copies_of_latents_are_looked_for_in_decoded_pixels(tmp_path, open_latents) -> None:
    save_file({"latents": values(30)}, tmp_path / "a.safetensors")
    source = open_latents()
    found = load_or_compute_neighbours(source, tmp_path / "reference")
    assert found is not None
    assert found.images.shape == (30, 3, 8, 8)
    assert found.compare(to_uint8(source.decode(values(30)))).near_copies == 1.0
    assert found.compare(to_uint8(source.decode(values(30, seed=1)))).near_copies < 0.5

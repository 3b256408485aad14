"""Conversion, crop and the many ways in which a file can be no image."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from schedsearch.data.image_files import UnreadableImageError, centre_crop, read_image


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def mean_of_blocks(pixels: np.ndarray) -> np.ndarray:
    """2x2 means, rounded half up, as a box filter makes them."""
    h, w = pixels.shape[0] // 2, pixels.shape[1] // 2
    blocks = pixels[: 2 * h, : 2 * w].reshape(h, 2, w, 2, 3).astype(float)
    return np.floor(blocks.mean((1, 3)) + 0.5)


def test_halves_with_a_box_filter_before_the_bicubic_step(tmp_path: Path) -> None:
    # 32 x 48 -> 16 x 24 -> 8 x 12, and then 8 already fits: no bicubic step is left.
    pixels = noise(32, 48)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", "RGB", 8, 8).permute(1, 2, 0).numpy()
    expected = mean_of_blocks(mean_of_blocks(pixels))[:, 2:10]
    assert np.abs(found - expected).max() <= 3  # Pillow rounds after each axis
    directly = Image.fromarray(pixels).resize((12, 8), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(directly)[:, 2:10] - expected).max() > 20


def test_the_last_step_is_bicubic_and_keeps_the_aspect() -> None:
    image = Image.fromarray(noise(15, 23))  # less than twice 10: no halving
    resized = image.resize((round(23 * 10 / 15), 10), Image.Resampling.BICUBIC)
    left = (resized.width - 10) // 2
    expected = np.asarray(resized)[:, left : left + 10]
    assert np.array_equal(np.asarray(centre_crop(image, 10, 10)), expected)


def test_small_images_are_enlarged_and_rectangles_fit() -> None:
    small = Image.fromarray(noise(3, 5))  # to 8 x 13, of which the middle 8 columns stay
    found = np.asarray(centre_crop(small, 8, 8))
    assert np.array_equal(
        found, np.asarray(small.resize((13, 8), Image.Resampling.BICUBIC))[:, 2:10]
    )
    assert centre_crop(Image.fromarray(noise(40, 37)), 6, 12).size == (12, 6)


def test_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 30, 60)).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    found = read_image(tmp_path / "a.jpg", "RGB", 8, 8)
    assert (found[:, 4, 4].float() - torch.tensor([200.0, 30, 60])).abs().max() <= 6
    assert read_image(tmp_path / "a.jpg", "L", 8, 8).shape == (1, 8, 8)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    levels = np.array([[0, 257, 32768, 65535]] * 4, dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(levels).save(tmp_path / name)
        assert read_image(tmp_path / name, "L", 4, 4)[0, 0].tolist() == [0, 1, 128, 255]
        assert read_image(tmp_path / name, "RGB", 4, 4)[:, 0, 2].tolist() == [128] * 3


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((4, 4, 4), dtype=np.uint8)
    rgba[:2] = (10, 20, 30, 255)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    palette = Image.fromarray(np.repeat(np.array([[0], [0], [1], [1]], np.uint8), 4, axis=1), "P")
    palette.putpalette([10, 20, 30, 99, 99, 99])
    palette.save(tmp_path / "p.png", transparency=bytes([255, 0]))
    for name in ("rgba.png", "p.png"):
        found = read_image(tmp_path / name, "RGB", 4, 4)
        assert found[:, 0, 0].tolist() == [10, 20, 30]
        assert found[:, 3, 0].tolist() == [255, 255, 255]


def test_black_and_white_and_plain_palettes(tmp_path: Path) -> None:
    checks = np.indices((4, 4)).sum(0) % 2 == 0
    Image.fromarray(checks).save(tmp_path / "one.png")
    assert read_image(tmp_path / "one.png", "L", 4, 4)[0, 0].tolist() == [255, 0, 255, 0]
    Image.fromarray(noise(4, 4)).quantize(8).save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png", "RGB", 4, 4).shape == (3, 4, 4)


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(noise(16, 16)).save(stream, "png")
    return stream.getvalue()


def jpeg() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(stream, "jpeg")
    return stream.getvalue()


DAMAGED = {
    "empty": (b"", "not an image"),
    "text": (b"<html>404</html>", "not an image"),
    "png cut in its data": (png()[:200], "truncated"),
    "png cut in its header": (png()[:20], "Truncated"),
    "png with a wrong checksum": (png().replace(b"IDAT", b"IDAX"), "not an image"),
    "jpeg cut in its data": (jpeg()[: len(jpeg()) // 2], "truncated"),
    "jpeg cut in its header": (jpeg()[:30], "Truncated"),
    "zeros": (bytes(1000), "not an image"),
}


@pytest.mark.parametrize(("content", "reason"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_files(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason):
        read_image(file, "RGB", 8, 8)


def test_decompression_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.png"
    Image.new("1", (300, 300)).save(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        read_image(file, "RGB", 8, 8)


def test_a_line_does_not_blow_up_when_it_is_resized(tmp_path: Path) -> None:
    Image.new("L", (60_000, 1)).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match="60000 x 1 pixels is too elongated"):
        read_image(tmp_path / "a.png", "RGB", 256, 256)


def test_values_without_a_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5], [1.0, 300.0]], dtype=np.float32)).save(
        tmp_path / "a.tif"
    )
    with pytest.raises(UnreadableImageError, match="no known range"):
        read_image(tmp_path / "a.tif", "RGB", 2, 2)


def test_every_missing_or_odd_path(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="No such file"):
        read_image(tmp_path / "nowhere.png", "RGB", 8, 8)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UnreadableImageError, match="Is a directory"):
        read_image(tmp_path / "folder.png", "RGB", 8, 8)

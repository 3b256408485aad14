import numpy as np
import pytest
import torch
from PIL import Image

from schedsearch.evaluation.grid import save_grid


def _numbered(num, channels=1, side=8):
    values = 10 * torch.arange(1, num + 1, dtype=torch.uint8)
    return values[:, None, None, None].repeat(1, channels, side, side)


def test_small_images_are_enlarged_and_in_reading_order(tmp_path):
    save_grid(_numbered(5), tmp_path / "grid.png", columns=4)
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 4
    assert height > 100
    centres = [
        sheet[height // 2 + height * row, width // 2 + width * column, 0]
        for row in range(2)
        for column in range(4)
    ]
    assert centres[:5] == [10, 20, 30, 40, 50]
    assert len(set(centres[5:])) == 1, "the rest of the sheet is background"
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_colour_is_kept(tmp_path):
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    images[:, 2] = 200
    save_grid(images, tmp_path / "grid.png", columns=1)
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))
    assert sheet[sheet.shape[0] // 2, sheet.shape[1] // 2].tolist() == [0, 0, 200]


def test_latents_are_no_picture(tmp_path):
    with pytest.raises(ValueError, match="have 4"):
        save_grid(_numbered(2, channels=4), tmp_path / "grid.png")

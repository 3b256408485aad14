from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL


@pytest.fixture(scope="session")
def vae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny autoencoder with random weights: latents (4, 4, 4) <-> pixels (3, 8, 8)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            layers_per_block=1,
            sample_size=8,
        )
    folder = tmp_path_factory.mktemp("vae")
    vae.save_pretrained(folder)
    return folder

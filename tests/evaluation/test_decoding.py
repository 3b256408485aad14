"""Quality of a latent model: its samples are decoded before anything is measured."""

import numpy as np
import pytest
import torch
from torch import Tensor

from schedsearch.data.pixels import to_uint8
from schedsearch.evaluation.quality import measure_quality
from schedsearch.evaluation.real_images.reference import compute_reference
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.exceptions import TrialError
from schedsearch.schedules.exit_schedule import ExitSchedule

SCHEDULE = ExitSchedule((5, 5, 5, 4, 4, 3, 3, 2, 2, 1))


class Colours:
    """Eight features that depend on every pixel."""

    name, dim, sha256 = "colours", 8, "0" * 64

    def __call__(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, 16, 16)
        return images.float().mean(1).flatten(1)[:, ::32]


class Decoded:
    fingerprint = "sha256:decoded"
    num_images = 60

    def uint8_batches(self, batch_size):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (60, 3, 16, 16), generator=generator, dtype=torch.uint8)
        yield from images.split(batch_size)


def decode(latents: Tensor) -> Tensor:
    """Twice the size, three channels, and far beyond [-1, 1] here and there."""
    return 3 * latents.expand(-1, 3, -1, -1).repeat_interleave(2, 2).repeat_interleave(2, 3)


def measure(net, solver, **changes):
    extractor = Colours()
    arguments = {"seed": 0, "num_samples": 50, "batch_size": 20, "decode": decode} | changes
    reference = compute_reference(Decoded(), extractor)
    return measure_quality(
        net, SCHEDULE, solver, extractor=extractor, reference=reference, **arguments
    )


def test_images_and_their_spread_are_those_of_the_decoded_samples(net, solver) -> None:
    quality = measure(net, solver)
    noise, labels = starting_noise(0, 50, net.in_shape), balanced_labels(50, 10)
    pixels = decode(generate(net, SCHEDULE, solver, noise, labels, 20))
    assert torch.equal(quality.samples, to_uint8(pixels))
    assert quality.sample_std == pytest.approx(float(pixels.double().std(correction=0)))
    extractor = Colours()
    rows = (
        extractor(quality.samples).double().numpy(),
        np.concatenate(
            [extractor(batch).double().numpy() for batch in Decoded().uint8_batches(20)]
        ),
    )
    (mean, cov), (real_mean, real_cov) = ((r.mean(0), np.cov(r, rowvar=False)) for r in rows)
    root = np.sqrt(np.linalg.eigvals(cov @ real_cov).real.clip(min=0)).sum()
    fid = ((mean - real_mean) ** 2).sum() + np.trace(cov) + np.trace(real_cov) - 2 * root
    assert quality.fid == pytest.approx(fid, rel=1e-4)
    assert measure(net, solver, batch_size=50).sample_std == pytest.approx(quality.sample_std)


def test_a_decoder_that_overflows_is_noticed(net, solver) -> None:
    with pytest.raises(TrialError, match="not finite"):
        measure(net, solver, decode=lambda latents: decode(latents) / 0)

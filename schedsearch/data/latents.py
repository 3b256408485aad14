"""Latents as training data of latent diffusion models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from schedsearch.data.latent_files import LatentShard
from schedsearch.data.pixels import to_uint8
from schedsearch.data.sources import spread_over_classes
from schedsearch.data.vae import LatentDecoder
from schedsearch.exceptions import ConfigError

_USUAL_STD = (0.3, 3.0)
"""Plausible range; Stable Diffusion's latents have about 5 unscaled and 1 scaled."""


class LatentSource:
    """Latents for training, and their decoded images as the FID reference.

    The reference holds reconstructions, the best images a perfect model can produce. So FID
    leaves out the error of the autoencoder. With moments, every batch holds new samples of the
    posterior, and the reference uses the mean.

    Args:
        shards: One or more shards, all with labels or all without.
        decoder: Decoder of the autoencoder that made the latents.

    Raises:
        ConfigError: If latents and decoder differ in their number of channels.
    """

    def __init__(self, shards: list[LatentShard], decoder: LatentDecoder) -> None:
        self._shards, self._decoder = shards, decoder
        self._starts = torch.tensor([0, *(len(shard.values) for shard in shards)]).cumsum(0)
        labels = [shard.labels for shard in shards if shard.labels is not None]
        self.labels = torch.cat(labels) if labels else None
        channels = shards[0].channels
        if channels != decoder.latent_channels:
            raise ConfigError(
                f"The latents have {channels} channels, but data.vae decodes "
                f"{decoder.latent_channels}. Name the autoencoder that made them."
            )

    @property
    def decoder(self) -> LatentDecoder:
        """The decoder, for other latents of the same autoencoder."""
        return self._decoder

    @property
    def num_images(self) -> int:
        """Number of latents."""
        return int(self._starts[-1])

    @property
    def num_classes(self) -> int | None:
        """The largest label plus one, or None without labels."""
        return None if self.labels is None else int(self.labels.max()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the files and of the autoencoder."""
        digest = hashlib.sha256(self._decoder.sha256.encode())
        for shard in self._shards:
            with shard.path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return f"sha256:{digest.hexdigest()}"

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw latents with replacement, (N, C, h, w) float32, scaled, and labels (N,).

        For moments, the noise is drawn after the rows, from the same generator.
        """
        chosen = torch.randint(self.num_images, (size,), generator=generator)
        latents = self._rows(chosen, generator)
        return latents, None if self.labels is None else self.labels[chosen]

    def uint8_batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield the decoded image of every latent once, in order: (n, 3, H, W) uint8."""
        for numbers in torch.split(torch.arange(self.num_images), batch_size):
            yield to_uint8(self.decode(self._rows(numbers)))

    def decode(self, samples: Tensor) -> Tensor:
        """Decode scaled latents to pixels; see :class:`ImageSource`."""
        return self._decoder(samples)

    def verify(self) -> tuple[str, ...]:
        """Check latents of every class and both ends of every shard; decode one.

        Returns:
            A warning if the scale of the latents is unusual.

        Raises:
            ConfigError: If a latent or the decoded image is not finite.
        """
        # Read a sample.
        ends = {*self._starts[:-1].tolist(), *(self._starts[1:] - 1).tolist()}
        numbers = torch.tensor(sorted({*spread_over_classes(self.labels, self.num_images), *ends}))
        # Look for damage.
        broken = numbers[~self._stored(numbers).isfinite().flatten(1).all(1)].tolist()
        if broken:
            path = self._shards[self._shard_of(broken[0])].path
            raise ConfigError(
                f"{len(broken)} of {len(numbers)} checked latents are not finite, the first in "
                f"{path}. Encode these images again."
            )
        latents = self._rows(numbers)
        if not self.decode(latents[:1]).isfinite().all():
            raise ConfigError("data.vae decodes a latent to values that are not finite.")
        # Check the scale.
        std = float(latents.std())
        if _USUAL_STD[0] < std < _USUAL_STD[1]:
            return ()
        return (
            f"The latents have a standard deviation of {std:.2f}, but scaled latents have about "
            f"1. Store latents times {self._decoder.scaling_factor:g} (the scaling_factor), and "
            "moments without it.",
        )

    def _rows(self, numbers: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return scaled latents by index, (n, C, h, w) float32.

        For moments, return samples of the posterior, or its mean without a generator.
        """
        values = self._stored(numbers)
        if not self._shards[0].moments:
            return values
        mean, log_variance = values.chunk(2, dim=1)
        if generator is not None:
            noise = torch.randn(mean.shape, generator=generator)
            # NOTE: diffusers' bounds, so that an outlier cannot overflow.
            mean = mean + (0.5 * log_variance.clamp(-30.0, 20.0)).exp() * noise
        return mean * self._decoder.scaling_factor

    def _stored(self, numbers: Tensor) -> Tensor:
        """Return rows of the files by index, as float32."""
        rows = []
        for number in numbers.tolist():
            shard = self._shard_of(number)
            rows.append(self._shards[shard].values[number - int(self._starts[shard])].float())
        return torch.stack(rows)

    def _shard_of(self, number: int) -> int:
        return int(torch.searchsorted(self._starts, number, right=True)) - 1

"""The section ``evaluation``: how quality and latency are measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from schedsearch.files.problems import Mistake, shown
from schedsearch.files.validation import rules
from schedsearch.settings.common import Count, Seed


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """How quality and latency are measured; part of what makes two numbers comparable."""

    num_samples: Annotated[int, Field(ge=2)] = 1000
    """Images per trial. FID is biased in their number, so only equal ones compare."""
    features: str = "digits"
    """``digits`` or ``digits_mlp``, ``lenet`` or ``mnist_cnn`` (MNIST), ``tiles_cnn`` or
    ``tiles_resnet`` (colour tiles), ``inception``, or ``package.module:Class`` for your own."""
    features_path: str | None = None
    """Weights file of ``inception`` or ``lenet`` (never downloaded)."""
    seed: Seed = 0
    """Noise and labels of every trial; confirmation uses the seeds that follow."""
    batch_size: Count = 250
    """Images sampled at once when measuring quality; a method with ``decide: batch`` decides on
    them together."""
    latency_batch: Count = 64
    """Images that are sampled at once when latency is measured."""
    latency_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Data type of the weights when latency is measured."""
    latency_compile: bool = False
    """Time the network with its blocks compiled by ``torch.compile``, as you will use it."""
    latency_repeats: Annotated[int, Field(ge=3, le=10_000)] = 7
    """Rounds; each times every schedule once, interleaved with the others."""
    latency_batches: Count = 4
    """Batches of different noise that time a dynamic method in a comparison."""
    confirm_seeds: Annotated[int, Field(ge=0, le=10_000)] = 5
    """Held-out evaluation seeds that compare searched schedules with presets; 0 leaves it out."""
    confirm_samples: Annotated[int, Field(ge=2)] | None = None
    """Images per held-out seed; null takes ``num_samples``."""
    confirm_training_seeds: Annotated[int, Field(ge=0)] = 0
    """Retrain presets and the schedules compared with them with this many new training seeds.
    The intervals are then over training seeds; 0 compares the trials' own weights."""
    auditor: str | None = None
    """A second extractor, named like ``features``. It chooses nothing; the confirmation shows
    its FID beside the first."""
    auditor_path: str | None = None
    """Weights file of the auditor, like ``features_path``."""

    @rules
    def _rules(self) -> Iterator[Mistake]:
        key = "confirm_training_seeds"
        if self.confirm_training_seeds == 1:
            yield key, "an interval over training seeds needs two of them, got 1", "set it to 3"
        if self.confirm_training_seeds and not self.confirm_seeds:
            reason = "retrained schedules are measured at held-out seeds, but confirm_seeds is 0"
            yield key, reason, "set confirm_seeds to 1 or more, or this to 0"
        if self.auditor is None and self.auditor_path is not None:
            remedy = "name it in evaluation.auditor, or remove the key"
            yield "auditor_path", "there is no auditor whose weights these are", remedy
        if (self.auditor, self.auditor_path) == (self.features, self.features_path):
            reason = f"must be independent of features, got {shown(self.auditor)} for both"
            yield "auditor", reason, "name another extractor, or remove the key"

    @property
    def confirm_samples_used(self) -> int:
        """Images of a held-out seed."""
        return self.confirm_samples or self.num_samples

    @property
    def confirm_seeds_used(self) -> range:
        """The held-out seeds of the trials' own weights."""
        return range(self.seed + 1, self.seed + 1 + self.confirm_seeds)

    def retrain_seeds_used(self, index: int) -> range:
        """The evaluation seeds of retraining number ``index``; no two retrainings share one."""
        first = self.confirm_seeds_used.stop + index * self.confirm_seeds
        return range(first, first + self.confirm_seeds)

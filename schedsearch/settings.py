"""The sections of a search space file as plain frozen data.

The constraints in the annotations are enforced where the file is read (``schedsearch.config``);
everything below that layer receives these objects and trusts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from schedsearch.space import Monotone, SearchSpace

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSettings:
    """Which network, and the weights to start from."""

    name: str | None = None
    """A registry name such as ``DiT-XL/2``; or ``family`` with ``config``."""
    family: str | None = None
    """``dit``, or ``package.module:Class`` for anything that meets the Backbone protocol."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class, by their official names."""
    checkpoint: str | None = None
    """Weights: a path, or ``package:NAME`` for weights that ship."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionSettings:
    """The forward process and what the network predicts."""

    betas: Literal["linear"] = "linear"
    prediction: Literal["eps"] = "eps"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """The real images: training data and reference of FID."""

    source: Literal["digits", "image_folder", "npz"]
    path: str | None = None
    """Folder or file; not for ``digits``, which ships with scikit-learn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceSettings:
    """The set of schedules to search."""

    num_intervals: Annotated[int, Field(ge=1, le=1000)] = 10
    min_depth: Count
    max_depth: Count
    monotone: Monotone = "nonincreasing"

    def build(self) -> SearchSpace:
        """The space itself."""
        return SearchSpace(self.min_depth, self.max_depth, self.num_intervals, self.monotone)


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaSettings:
    """lambda(t), the loss weight that is larger near the noise (ASE, Sec. 3.3)."""

    kind: Literal["none", "linear"] = "linear"
    """``linear``: 1 in interval 0, rising to ``max`` in the last interval."""
    max: Annotated[float, Field(ge=1)] = 4.0
    until: Annotated[float, Field(ge=0, le=1)] | Literal["plateau"] = 0.5
    """Fraction of the steps after which lambda is 1 everywhere, or when the loss flattens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeSettings:
    """Numbers of the short fine-tune (ASE, Sec. 3.3 and 4.1)."""

    num_steps: Annotated[int, Field(ge=0)]
    batch_size: Count
    lr: Positive
    lr_schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = "auto"
    """Constant decay of the EMA; ``auto`` ties it to the length of the fine-tune."""
    lambda_weighting: LambdaSettings = LambdaSettings()
    label_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of labels replaced by "no class", as classifier-free guidance needs."""
    grad_clip: Positive | None = 1.0
    """Largest global gradient norm; null clips nothing."""
    freeze_time_embedder: bool = False
    save_every: Count = 200
    """Steps between two saved states that an interrupted trial continues from."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """For a trainer of your own; passed on unread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverSettings:
    """How images are sampled."""

    name: Literal["ddim", "dpm_solver"] = "ddim"
    num_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    cfg_scale: Annotated[float, Field(ge=1)] = 1.0
    """Classifier-free guidance; 1 is off."""
    spacing: Literal["linspace", "leading", "trailing"] = "linspace"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """How quality and latency are measured; part of what makes two numbers comparable."""

    num_samples: Annotated[int, Field(ge=2)] = 1000
    features: str = "digits"
    """``digits``, ``inception``, or ``package.module:Class`` for an extractor of your own."""
    features_path: str | None = None
    """Weights file of ``inception`` (never downloaded)."""
    seed: Seed = 0
    """Noise and labels of every trial; confirmation uses the seeds after it."""
    batch_size: Count = 250
    """Images sampled at once when measuring quality."""
    latency_batch: Count = 64
    latency_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    latency_repeats: Annotated[int, Field(ge=3)] = 7
    confirm_seeds: Annotated[int, Field(ge=0)] = 5
    """Fresh seeds for the paired comparison with the presets; 0 leaves it out."""
    confirm_samples: Annotated[int, Field(ge=2)] | None = None
    """Images per fresh seed; null takes ``num_samples``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How long and how to search."""

    n_trials: Count
    """Different schedules with a complete result, presets and full depth included."""
    seed: Seed = 0
    sampler: Literal["additive", "stratified", "uniform", "tpe", "nsga2"] = "additive"
    storage: str | None = None
    """Any Optuna storage URL; null keeps ``study.db`` in the run folder."""
    max_retries: Annotated[int, Field(ge=0)] = 2
    """New attempts for a schedule whose worker died or ran out of memory."""
    trial_timeout: Positive | None = None
    """Seconds after which a trial is stopped and counts as failed; null waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSettings:
    """Where trials run; may change between two starts of one run."""

    backend: Literal["ray", "local"] = "ray"
    num_workers: Count = 1
    cpus_per_trial: Count = 1
    gpus_per_trial: Annotated[float, Field(ge=0)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySettings:
    """A whole search space file."""

    name: str
    backbone: BackboneSettings
    diffusion: DiffusionSettings = DiffusionSettings()
    data: DataSettings
    space: SpaceSettings
    warm_start: tuple[str | tuple[int, ...], ...] = ()
    """Schedules to measure first: ``full``, presets, lists of depths or schedule files."""
    trainer: str = "trainers.ase:AseTrainer"
    recipe: RecipeSettings
    solver: SolverSettings = SolverSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    search: SearchSettings
    resources: ResourceSettings = ResourceSettings()

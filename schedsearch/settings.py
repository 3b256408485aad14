"""The sections of a search space file as plain frozen data.

``schedsearch.config`` enforces types, ranges and rules where it reads the file. Everything else
receives these objects and trusts them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from schedsearch.files.problems import Mistake, shown
from schedsearch.files.validation import RuleError, rules
from schedsearch.schedules.space import Monotone, SearchSpace

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
Prediction = Literal["eps", "v", "x0"]


def _check_run_name(name: str) -> str:
    # A run's name becomes a folder and a study name: nothing that a path or a shell could read.
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) is None:
        remedy = "use up to 100 letters, digits, '.', '_' and '-'; begin with a letter or digit"
        raise RuleError(("", f"{shown(name)} cannot name a run", remedy))
    return name


RunName = Annotated[str, AfterValidator(_check_run_name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSettings:
    """Which network, and the weights to start from."""

    name: str | None = None
    """A registry name such as ``DiT-XL/2``; or ``family`` with ``config``."""
    family: str | None = None
    """``dit``, ``uvit``, or ``package.module:Class`` for anything that meets the protocol."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class, by their official names."""
    checkpoint: str | None = None
    """Weights: a file, a training folder of U-ViT or a diffusers folder, with ``#ema`` or
    ``#model`` behind it where it holds both; or ``package:NAME`` for weights that ship."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionSettings:
    """The forward process and what the network predicts."""

    betas: Literal["linear", "cosine", "vp"] = "linear"
    """``linear`` and ``cosine`` have 1000 timesteps; ``vp`` is the continuous process."""
    prediction: Prediction = "eps"
    """What the network predicts: the noise, v, or the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """The real images: training data and reference of FID."""

    source: Literal["digits", "mnist", "cifar10", "image_folder", "npz", "latents"]
    path: str | None = None
    """Where the images lie; nothing is downloaded. ``mnist``, ``cifar10``: torchvision's root
    folder. ``image_folder``: class folders or a flat one. ``npz``: a file. ``latents``: a file or
    a folder of shards. ``digits`` ship with scikit-learn and take no path."""
    flip: bool = False
    """Mirror every second training image at random. FID's reference stays unmirrored. Not for
    digits, MNIST and latents."""
    max_damaged: Annotated[int, Field(ge=0)] = 0
    """``image_folder`` only: unreadable images that may be skipped; one more is an error."""
    vae: str | None = None
    """``latents`` only: folder of the diffusers ``AutoencoderKL`` that decodes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceSettings:
    """The set of schedules to search."""

    num_intervals: Annotated[int, Field(ge=1, le=1000)] = 10
    """Equal intervals of diffusion time."""
    min_depth: Count
    """Fewest blocks that a schedule may run."""
    max_depth: Count
    """Most blocks, at most the exit blocks of the backbone."""
    monotone: Monotone = "nonincreasing"
    """``nonincreasing``: never deeper towards the noise (ASE, Fig. 1). ``free``: any shape."""

    @rules
    def _rules(self) -> Iterator[Mistake]:
        if self.min_depth > self.max_depth:
            reason = f"must be <= max_depth, got {self.min_depth} and {self.max_depth}"
            yield "min_depth", reason, None

    def build(self) -> SearchSpace:
        """The space itself."""
        return SearchSpace(self.min_depth, self.max_depth, self.num_intervals, self.monotone)


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaSettings:
    """lambda(t), the loss weight that is larger near the noise (ASE, Sec. 3.3)."""

    kind: Literal["none", "linear"] = "linear"
    """``linear``: 1 in interval 0, rising to ``max`` in the last interval."""
    max: Annotated[float, Field(ge=1)] = 4.0
    """lambda in the last interval."""
    until: Annotated[float, Field(ge=0, le=1)] | Literal["plateau"] = 0.5
    """Fraction of the steps after which lambda is 1 everywhere, or when the loss flattens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeSettings:
    """Numbers of the short fine-tune (ASE, Sec. 3.3 and 4.1).

    A file may also name a ``base`` here, a recipe that ships or a file, whose numbers hold where
    it gives none of its own; it is merged before these settings are made.
    """

    num_steps: Annotated[int, Field(ge=0)]
    """Optimizer steps; 0 measures the pretrained weights as they are."""
    batch_size: Count
    """Images per optimizer step."""
    lr: Positive
    """Learning rate of AdamW."""
    weights: Literal["own", "shared"] = "own"
    """``own``: every trial fine-tunes a copy of the network, as ASE does. ``shared``: the network
    is tuned once on random schedules of the space, and trials only measure it. Full depth keeps
    the pretrained weights then."""
    lr_schedule: Literal["constant", "cosine"] = "constant"
    """Over the steps of one fine-tune."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of AdamW."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    """Moment decay rates of AdamW."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = "auto"
    """Constant decay of the EMA; ``auto`` ties it to the length of the fine-tune."""
    lambda_weighting: LambdaSettings = LambdaSettings()
    """Loss weight per time."""
    label_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of labels that become "no class", as classifier-free guidance needs."""
    grad_clip: Positive | None = 1.0
    """Largest global gradient norm; null clips nothing."""
    freeze_time_embedder: bool = False
    """Train all but the time embedder, as ASE's code does for a DiT."""
    loss: Literal["auto", "mse", "hybrid"] = "auto"
    """``mse`` of the prediction. ``hybrid`` adds the bound for learned variances (Improved DDPM,
    Eq. 16; discrete processes only). ``auto``: ``hybrid`` if the backbone learns variances."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """``tf32`` allows fast float32 products on CUDA. ``bf16`` runs the network in autocast, with
    weights and loss in float32."""
    accumulate: Count = 1
    """Parts into which a batch is cut to save memory; the gradient is that of the batch."""
    gradient_checkpointing: bool = False
    """Recompute the blocks in the backward pass: less memory, about a third more time."""
    save_every: Count = 200
    """Steps between two saved states that an interrupted trial continues from."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Passed through to the trainer unchanged."""

    @rules
    def _rules(self) -> Iterator[Mistake]:
        if self.accumulate > self.batch_size:
            reason = f"cuts a batch of {self.batch_size} into {self.accumulate} parts"
            yield "accumulate", reason, "make it at most recipe.batch_size"
        if self.weights == "shared" and self.num_steps == 0:
            reason = "shared weights are tuned for recipe.num_steps, but that is 0"
            yield "weights", reason, "set num_steps to 1 or more, or weights to own"


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverSettings:
    """How images are sampled."""

    name: Literal["ddpm", "ddim", "dpm_solver", "euler_maruyama"] = "ddim"
    num_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Calls of the network per image."""
    cfg_scale: Annotated[float, Field(ge=1)] = 1.0
    """Classifier-free guidance; 1 is off."""
    cfg_channels: Count | None = None
    """Guide only the first channels (3 of 4 in DiT's code); null guides all."""
    spacing: Literal["linspace", "leading", "trailing"] = "linspace"
    """Timesteps of a process with 1000 of them. The continuous process and singlestep
    ``dpm_solver`` lay out their own times and refuse another value."""
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """``ddim`` only: share of the noise of DDPM (DDIM, Eq. 16)."""
    variance: Literal["auto", "learned", "fixed_small", "fixed_large"] = "auto"
    """``ddpm`` only; ``auto``: learned where the backbone learns it, else ``fixed_small``."""
    order: Annotated[int, Field(ge=1, le=3)] = 2
    """``dpm_solver`` only."""
    method: Literal["multistep", "singlestep"] = "multistep"
    """``dpm_solver`` only; U-ViT's code: ``singlestep`` with order 3 and ``dpmsolver``."""
    algorithm: Literal["dpmsolver++", "dpmsolver"] = "dpmsolver++"
    """``dpm_solver`` only: DPM-Solver++ integrates in the data, DPM-Solver in the noise."""
    end_time: Annotated[float, Field(ge=1e-3, lt=1000)] | None = None
    """Continuous process only, in [0, 1000]. ``dpm_solver`` ends there; ``euler_maruyama`` steps
    from there to 0. Null takes 0.1 and 1, as U-ViT's code does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """How quality and latency are measured; part of what makes two numbers comparable."""

    num_samples: Annotated[int, Field(ge=2)] = 1000
    """Images per trial. FID is biased in their number, so only equal ones compare."""
    features: str = "digits"
    """``digits`` or ``digits_mlp``, ``lenet`` or ``mnist_cnn`` (MNIST), ``inception``, or
    ``package.module:Class`` for your own."""
    features_path: str | None = None
    """Weights file of ``inception`` or ``lenet`` (never downloaded)."""
    seed: Seed = 0
    """Noise and labels of every trial; confirmation uses the seeds that follow."""
    batch_size: Count = 250
    """Images sampled at once when measuring quality."""
    latency_batch: Count = 64
    """Images that are sampled at once when latency is measured."""
    latency_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Data type of the weights when latency is measured."""
    latency_compile: bool = False
    """Time the network with its blocks compiled by ``torch.compile``, as you will use it."""
    latency_repeats: Annotated[int, Field(ge=3)] = 7
    """Rounds; each times every schedule once, interleaved with the others."""
    confirm_seeds: Annotated[int, Field(ge=0)] = 5
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
    def confirm_seeds_used(self) -> range:
        """The held-out seeds of the trials' own weights."""
        return range(self.seed + 1, self.seed + 1 + self.confirm_seeds)

    def retrain_seeds_used(self, index: int) -> range:
        """The evaluation seeds of retraining number ``index``; no two retrainings share one."""
        first = self.confirm_seeds_used.stop + index * self.confirm_seeds
        return range(first, first + self.confirm_seeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSettings:
    """The error table: loss per interval and exit depth, measured before the first trial."""

    num_images: Count = 512
    """Images per interval and depth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """Limits of a run besides ``search.n_trials``.

    May change between two starts. No trial starts once a limit is reached. Trials that run may
    overrun it by a tenth (30 seconds at least); then they are stopped and resume later. Final
    latencies and the confirmation run in any case; ``--dry-run`` says how long they take.
    """

    wall_clock: Positive | None = None
    """Seconds of all starts together, not counting the time while the run was stopped."""
    device_hours: Positive | None = None
    """Hours that workers were busy; one worker for one hour is one device-hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How long and how to search."""

    n_trials: Count
    """Different schedules with a complete result, presets and full depth included."""
    seed: Seed = 0
    """Seed of the proposals and of every fine-tune."""
    sampler: Literal["additive", "stratified", "uniform", "tpe", "nsga2", "gp"] = "additive"
    """What proposes schedules: our surrogate, draws per latency stratum, uniform draws, or one of
    Optuna's samplers."""
    dp_seeds: Annotated[int, Field(ge=0)] = 4
    """Optima of the error table that are measured after the warm starts, spread along its front;
    0 where ``profile`` is null."""
    budget: BudgetSettings = BudgetSettings()
    """Time limits."""
    storage: str | None = None
    """Any Optuna storage URL; null keeps ``study.db`` in the run folder."""
    max_retries: Annotated[int, Field(ge=0)] = 2
    """New attempts for a schedule whose worker died or ran out of memory."""
    trial_timeout: Positive | None = None
    """Seconds after which a trial is stopped and counts as failed; null waits."""

    @rules
    def _rules(self) -> Iterator[Mistake]:
        url = self.storage
        if url is not None and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://.+", url) is None:
            reason = f"must be an Optuna storage URL, got {shown(url)}"
            remedy = f"write sqlite:///{url}, or remove the key for study.db in the run folder"
            yield "storage", reason, remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSettings:
    """Where trials run; may change between two starts of one run."""

    backend: Literal["ray", "local"] = "ray"
    """Ray Tune, or plain processes on this machine."""
    num_workers: Count = 1
    """Jobs at a time."""
    cpus_per_trial: Count = 1
    """Threads of a worker; small models gain nothing from more than one."""
    gpus_per_trial: Annotated[float, Field(ge=0)] = 0.0
    """GPUs of a worker, or a fraction of one. With 1 or more, trials measure latency in place."""

    @rules
    def _rules(self) -> Iterator[Mistake]:
        gpus = self.gpus_per_trial
        if gpus > 1 and not float(gpus).is_integer():
            reason = f"must be a fraction below 1 or a whole number, got {gpus:g}"
            yield "gpus_per_trial", reason, "trials share one GPU or own some, as in Ray"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySettings:
    """A whole search space file."""

    name: RunName
    """Names the run, its folder and its study."""
    backbone: BackboneSettings
    """Which network, and the weights to start from."""
    diffusion: DiffusionSettings = DiffusionSettings()
    data: DataSettings
    """The real images."""
    space: SpaceSettings
    """Which schedules may be proposed."""
    warm_start: tuple[str | tuple[int, ...], ...] = ()
    """Schedules to measure first: ``full``, presets, lists of depths or schedule files."""
    trainer: str = "trainers.ase:AseTrainer"
    """Import string of the class that fine-tunes."""
    recipe: RecipeSettings
    """The fine-tune. ``base`` names a recipe file to start from, such as ``ase_dit``."""
    profile: ProfileSettings | None = ProfileSettings()
    """Null leaves out the error table and what needs it."""
    solver: SolverSettings = SolverSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    search: SearchSettings
    resources: ResourceSettings = ResourceSettings()

    @property
    def confirm_training_seeds_used(self) -> range:
        """Training seeds of the retrained schedules; the search used none of them."""
        first = self.search.seed + 1
        return range(first, first + self.evaluation.confirm_training_seeds)

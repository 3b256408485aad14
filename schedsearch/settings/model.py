"""Sections about the model, its data and the space of schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from schedsearch.files.problems import Mistake, shown
from schedsearch.files.validation import rules
from schedsearch.schedules.clocks import Clock
from schedsearch.schedules.edges import Edges, shifted_edges, why_no_edges
from schedsearch.schedules.space import Monotone, SearchSpace
from schedsearch.settings.common import Count, Positive, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSettings:
    """Which network, and the weights to start from."""

    name: str | None = None
    """A registry name such as ``DiT-XL/2``; or ``family`` with ``config``."""
    family: str | None = None
    """``dit``, ``sit``, ``uvit``, or ``package.module:Class`` for anything that meets the
    protocol."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class, by their official names."""
    checkpoint: str | None = None
    """Weights: a file, a training folder of U-ViT or a diffusers folder, with ``#ema`` or
    ``#model`` behind it where it holds both; or ``package:NAME`` for weights that ship."""


FLOW_KEYS = ("time", "times", "shift")
"""Keys of ``diffusion`` that only flow matching has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionSettings:
    """The forward process and what the network predicts."""

    process: Literal["ddpm", "vp", "flow"] | None = None
    """``ddpm`` has 1000 timesteps, ``vp`` is the continuous process, ``flow`` is the straight path
    of flow matching. Null derives it from ``betas``."""
    betas: Literal["linear", "cosine", "vp"] | None = None
    """``linear`` and ``cosine`` belong to ``ddpm``, ``vp`` to ``vp``. Null takes ``linear``; flow
    matching has none."""
    prediction: Prediction | None = None
    """What the network predicts: the noise, v, the data, or the velocity of flow matching. Null
    takes ``eps``, or ``velocity`` with ``process: flow``."""
    time: Literal["sigma", "sigma1000", "sit"] | None = None
    """``flow`` only, required: how the network is fed the noise level sigma. ``sigma``: as it is;
    ``sigma1000``: 1000 sigma, as diffusers does; ``sit``: 1 - sigma, and the velocity is data
    minus noise instead of noise minus data."""
    times: Literal["uniform", "logit_normal"] = "uniform"
    """``flow`` only: training times, before ``shift`` (SD3, Sec. 3.1)."""
    shift: Positive = 1.0
    """``flow`` only: moves training times towards the noise (SD3, Eq. 23); 1 leaves them."""

    def __post_init__(self) -> None:
        # NOTE: Left-out keys are derived here, so a stored file states them.
        process = self.process or ("vp" if self.betas == "vp" else "ddpm")
        if self.betas is None and process != "flow":
            object.__setattr__(self, "betas", "vp" if process == "vp" else "linear")
        if self.prediction is None:
            object.__setattr__(self, "prediction", "velocity" if process == "flow" else "eps")
        object.__setattr__(self, "process", process)

    @rules
    def _rules(self) -> Iterator[Mistake]:
        if self.process == "flow":
            yield from self._flow_rules()
            return
        if (self.betas == "vp") != (self.process == "vp"):
            reason = f"{self.betas} are no betas of process: {self.process}"
            yield "betas", reason, "remove one of the two keys"
        if self.prediction == "velocity":
            reason = f"process: {self.process} has no velocity"
            yield "prediction", reason, "write v, or set process to flow"
        for key in FLOW_KEYS:
            if getattr(self, key) != getattr(_DEFAULTS, key):
                reason = f"belongs to flow matching, got {shown(getattr(self, key))}"
                yield key, reason, "remove the key, or set process to flow"

    def _flow_rules(self) -> Iterator[Mistake]:
        if self.betas is not None:
            reason = f"flow matching has no betas, got {self.betas}"
            yield "betas", reason, "remove the key, or process: flow"
        if self.prediction == "v":
            reason = "v belongs to ddpm and vp; the velocity of flow matching is another one"
            yield "prediction", reason, "write velocity, x0 or eps"
        if self.time is None:
            reason = "process: flow must say how the network is fed its time"
            yield "time", reason, "write sit (0 is noise), sigma or sigma1000 (0 is data)"

    @property
    def clock(self) -> Clock:
        """What the clock of schedules counts; the continuous process shares DDPM's."""
        return "flow" if self.process == "flow" else "ddpm"

    def to_dict(self) -> dict[str, Any]:
        """What defines the sampled process, as plain data: only keys that it has."""
        if self.process == "flow":
            return {"process": "flow", "time": self.time, "prediction": self.prediction}
        return {"betas": self.betas, "prediction": self.prediction}


_DEFAULTS = DiffusionSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """The real images: training data, and by default reference of FID."""

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
    reference_split: Literal["train", "test"] = "train"
    """Images that FID compares with. ``test``: the test images of ``mnist`` or ``cifar10``, which
    train nothing. Near copies are always those of training images."""
    reference_path: str | None = None
    """``image_folder``, ``npz`` and ``latents``: images that FID compares with, of the same kind
    as ``path``. Null takes the training images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftedEdges:
    """Edges at the times where a sampler with this shift takes equal steps."""

    shift: Positive
    """1 gives equal intervals; 3, as in SD3, makes those near the noise narrow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceSettings:
    """The set of schedules to search."""

    num_intervals: Annotated[int, Field(ge=1, le=1000)] = 10
    """Intervals of diffusion time."""
    edges: Literal["equal"] | ShiftedEdges | tuple[float, ...] = "equal"
    """Where the intervals end on the clock [0, 1000]: ``equal``; ``{shift: s}``, equal intervals
    after a sampler's shift s; or ``num_intervals`` + 1 rising numbers from 0 to 1000."""
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
        edges = self.interval_edges
        if edges is not None and (why := why_no_edges(edges, self.num_intervals)) is not None:
            remedy = "write equal, {shift: 3}, or a list such as [0, 250, ..., 1000]"
            if len(edges) not in (0, 1, self.num_intervals + 1):
                remedy = f"set num_intervals to {len(edges) - 1}, or correct the list"
            yield "edges", why, remedy

    @property
    def interval_edges(self) -> Edges | None:
        """Edges of the intervals; None for equal ones."""
        if isinstance(self.edges, ShiftedEdges):
            return shifted_edges(self.num_intervals, self.edges.shift)
        return None if self.edges == "equal" else self.edges

    def build(self) -> SearchSpace:
        """The space itself."""
        return SearchSpace(
            self.min_depth,
            self.max_depth,
            self.num_intervals,
            self.monotone,
            self.interval_edges,
        )

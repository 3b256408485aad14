"""Sections about the model, its data and the space of schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from schedsearch.files.problems import Mistake
from schedsearch.files.validation import rules
from schedsearch.schedules.edges import Edges, shifted_edges, why_no_edges
from schedsearch.schedules.space import Monotone, SearchSpace
from schedsearch.settings.common import Count, Positive, Prediction


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
    """Edges by a reference shift: where a sampler with this shift takes equal steps."""

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

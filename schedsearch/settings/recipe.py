"""The section ``recipe``: the short fine-tune."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from schedsearch.files.problems import Mistake
from schedsearch.files.validation import rules
from schedsearch.settings.common import Count, Positive

Start = Literal["plain", "adapters"]
"""What the exits of a fine-tune start from."""


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

    A file may also name a ``base`` here: a recipe that ships, or a file. Its numbers hold where
    the space gives none, and are merged before these settings are made.
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
    start: Start = "plain"
    """``plain``: fine-tunes start from the pretrained exits. ``adapters``: each exit starts with a
    linear map to full depth's tokens, fitted once and trained along. A check with two judges
    comes first; where it does not help, the run starts plain and says why. Rows of a comparison
    start plain, unless the ``recipe`` of their entry says otherwise; no check is made there."""
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
    """Parts into which a batch is cut to save memory. The gradient stays the same."""
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
        if self.weights == "shared" and self.start == "adapters":
            reason = "adapters are trained for one schedule, but recipe.weights is shared"
            yield "start", reason, "set start to plain, or weights to own"

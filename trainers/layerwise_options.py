"""Options of a layer-wise fine-tune, given in ``recipe.extra``."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from schedsearch.exceptions import ConfigError
from schedsearch.methods.exits.uncertainty_module import Variant
from schedsearch.protocols import ExitLayers

LayerWeights = Literal["mean", "linear", "ual"]
Modules = Literal["none", "own", "shared"]

CHOICES: dict[str, tuple[str, ...]] = {
    "weights": get_args(LayerWeights),
    "uem": get_args(Modules),
    "variant": get_args(Variant),
    "exits": get_args(ExitLayers),
}
FLAGS = ("time", "alternate")
FACTORS = ("lambda", "beta")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerwiseOptions:
    """What a layer-wise fine-tune minimises."""

    weights: LayerWeights = "mean"
    """Weights of the exits: equal (BERxiT), growing with depth (CALM), or full depth plus the
    uncertainty-aware layer-wise loss of the others (DeeDiff, Eq. 12)."""
    uem: Modules = "none"
    """Uncertainty modules: none, one per exit (DeeDiff), or one for all (BERxiT)."""
    time: bool = True
    """Whether the module sees the time embedding; by default only in variant ``paper``."""
    variant: Variant = "paper"
    """DeeDiff by its paper, or by its published code; see ``layerwise_losses``."""
    exits: ExitLayers = "decoder"
    """Where a U-ViT may exit."""
    lambda_: float = 1.0
    """Factor of the module's loss."""
    beta: float = 1.0
    """Factor of the uncertainty-aware layer-wise loss."""
    alternate: bool = False
    """Train only full depth in every odd step (BERxiT)."""

    @classmethod
    def read(cls, extra: Mapping[str, Any], defaults: Mapping[str, Any]) -> LayerwiseOptions:
        """Read ``recipe.extra``.

        Args:
            extra: Options as in the file; ``lambda`` is its name there.
            defaults: Options that hold where ``extra`` gives none.

        Raises:
            ConfigError: If a key is unknown, a value is wrong or an option has no effect.
        """
        for name, value in extra.items():
            _check(name, value)
        given = {**defaults, **extra}
        given.setdefault("time", given.get("variant", "paper") == "paper")
        names = {"lambda": "lambda_"}
        options = cls(**{names.get(name, name): value for name, value in given.items()})
        options._check_effect(extra)
        return options

    def _check_effect(self, extra: Mapping[str, Any]) -> None:
        if self.uem == "none":
            if self.weights == "ual":
                raise ConfigError(
                    "recipe.extra.weights ual weights exits by their uncertainty, but "
                    "recipe.extra.uem is none; set it to own or shared."
                )
            for name in ("time", "lambda", "variant"):
                if name in extra:
                    raise ConfigError(
                        f"recipe.extra.{name} has no effect, because recipe.extra.uem is none; "
                        "remove it."
                    )
        if self.weights != "ual" and "beta" in extra:
            raise ConfigError(
                f"recipe.extra.beta has no effect with weights {self.weights}; remove it, or "
                "set weights to ual."
            )


def _check(name: str, value: Any) -> None:
    """Check one option of the file."""
    known = (*CHOICES, *FLAGS, *FACTORS)
    if name not in known:
        close = difflib.get_close_matches(str(name), known, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}."
        raise ConfigError(f"recipe.extra has no option {name!r} for this trainer; {hint}")
    if name in CHOICES:
        if value not in CHOICES[name]:
            raise ConfigError(
                f"recipe.extra.{name} must be {' or '.join(CHOICES[name])}, got {value!r}."
            )
    elif name in FLAGS:
        if not isinstance(value, bool):
            raise ConfigError(f"recipe.extra.{name} must be true or false, got {value!r}.")
    else:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value < 0:
            raise ConfigError(f"recipe.extra.{name} must be a number >= 0, got {value!r}.")

"""DeeDiff's fine-tune: exits weighted by their uncertainty, and the module that predicts it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from trainers.layerwise import LayerwiseTrainer


class DeeDiffTrainer(LayerwiseTrainer):
    """Minimises L_simple + lambda L_u + beta L_UAL (DeeDiff, Eq. 13), one module per exit.

    ``recipe.extra`` chooses ``variant: paper`` or ``code`` and may change every other option of
    :class:`trainers.layerwise_options.LayerwiseOptions`, as the ablations do (Table 3).
    """

    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({"weights": "ual", "uem": "own"})

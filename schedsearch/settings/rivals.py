"""The section ``rivals``: other ways to save compute, measured beside the schedules.

One entry with one operating point is one row of the comparison. ``targets`` are shares of full
depth's latency; a threshold that meets them is found by calibration.
"""

from __future__ import annotations

from collections.abc import Mapping

from schedsearch.settings.cache_rivals import (
    BlockCacheRival,
    ResidualCacheRival,
    RouterRival,
    TokenMergingRival,
)
from schedsearch.settings.exit_rivals import (
    FittedStepsRival,
    ScheduleRival,
    SimilarityRival,
    StepsRival,
    UncertaintyRival,
)
from schedsearch.settings.network_rivals import PrunedRival, SmallRival, StitchRival
from schedsearch.settings.plan import PlanSettings
from schedsearch.settings.rival_points import Point

__all__ = [
    "RIVAL_KINDS",
    "BlockCacheRival",
    "FittedStepsRival",
    "PlanSettings",
    "Point",
    "PrunedRival",
    "ResidualCacheRival",
    "RivalSettings",
    "RouterRival",
    "ScheduleRival",
    "SimilarityRival",
    "SmallRival",
    "StepsRival",
    "StitchRival",
    "TokenMergingRival",
    "UncertaintyRival",
]

RivalSettings = (
    ScheduleRival
    | StepsRival
    | FittedStepsRival
    | UncertaintyRival
    | SimilarityRival
    | TokenMergingRival
    | BlockCacheRival
    | ResidualCacheRival
    | RouterRival
    | PrunedRival
    | SmallRival
    | StitchRival
    | PlanSettings
)

RIVAL_KINDS: Mapping[str, type[RivalSettings]] = {
    "schedule": ScheduleRival,
    "steps": StepsRival,
    "fitted_steps": FittedStepsRival,
    "uncertainty": UncertaintyRival,
    "similarity": SimilarityRival,
    "tome": TokenMergingRival,
    "block_cache": BlockCacheRival,
    "residual_cache": ResidualCacheRival,
    "router": RouterRival,
    "pruned": PrunedRival,
    "small": SmallRival,
    "stitch": StitchRival,
}

"""A whole search space file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schedsearch.settings.common import RunName
from schedsearch.settings.evaluation import EvaluationSettings
from schedsearch.settings.model import (
    BackboneSettings,
    DataSettings,
    DiffusionSettings,
    SpaceSettings,
)
from schedsearch.settings.plan import PlanSettings
from schedsearch.settings.recipe import RecipeSettings
from schedsearch.settings.rivals import RivalSettings
from schedsearch.settings.sampling import SolverSettings
from schedsearch.settings.search import ProfileSettings, ResourceSettings, SearchSettings


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
    """Schedules to measure first: ``full``, presets, lists of depths, schedule files, or
    ``twin:ROW``, the static twin of a dynamic row of ``rivals`` (``twin:deediff-0.75``). Run
    ``schedsearch compare`` in the folder of the search before it: that measures the twin."""
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
    plan: PlanSettings | None = PlanSettings()
    """Plans that are measured before any fine-tune; null leaves them out."""
    rivals: Mapping[str, RivalSettings] = field(default_factory=dict)
    """Other ways to save compute, for ``schedsearch compare``; the search reads none but the
    twins among its warm starts. ``-o rivals.NAME=null`` removes an entry."""

    @property
    def confirm_training_seeds_used(self) -> range:
        """Training seeds of the retrained schedules; the search used none of them."""
        first = self.search.seed + 1
        return range(first, first + self.evaluation.confirm_training_seeds)

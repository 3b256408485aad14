"""The sections of a search space file as plain frozen data.

``schedsearch.config`` enforces types, ranges and rules where it reads the file. Everything else
receives these objects and trusts them.
"""

from schedsearch.settings.common import (
    Count,
    Fraction,
    NetworkTime,
    Positive,
    Prediction,
    Process,
    RunName,
    Seed,
)
from schedsearch.settings.evaluation import EvaluationSettings
from schedsearch.settings.model import (
    BackboneSettings,
    DataSettings,
    DiffusionSettings,
    SpaceSettings,
)
from schedsearch.settings.recipe import LambdaSettings, RecipeSettings
from schedsearch.settings.sampling import SolverSettings
from schedsearch.settings.search import (
    BudgetSettings,
    ProfileSettings,
    ResourceSettings,
    SearchSettings,
)
from schedsearch.settings.study import StudySettings

__all__ = [
    "BackboneSettings",
    "BudgetSettings",
    "Count",
    "DataSettings",
    "DiffusionSettings",
    "EvaluationSettings",
    "Fraction",
    "LambdaSettings",
    "NetworkTime",
    "Positive",
    "Prediction",
    "Process",
    "ProfileSettings",
    "RecipeSettings",
    "ResourceSettings",
    "RunName",
    "SearchSettings",
    "Seed",
    "SolverSettings",
    "SpaceSettings",
    "StudySettings",
]

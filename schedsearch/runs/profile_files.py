"""What a shared fine-tune leaves in a run folder, and whether it still fits the settings."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Literal

from schedsearch.files.atomic import write_text
from schedsearch.planning.error_table import ErrorTable
from schedsearch.workers.progress import STATE_FILE
from schedsearch.settings import LambdaSettings, RecipeSettings

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings import StudySettings

TunedExits = Literal["uniform", "schedules"]
"""Exits of a shared fine-tune, see ``ProfileJob``."""

SEED_OFFSET = 2**31
"""Added to ``search.seed``, which lies below it: no trial sees these batches once more."""


def shared_recipe(settings: StudySettings) -> RecipeSettings:
    """The study's recipe with the steps of the profile.

    Weights to start from are tuned with lambda(t), the larger weight near the noise (ASE, Sec.
    3.3), as one schedule's would be. Where only the error table is wanted, lambda is 1, since
    its losses are compared across the intervals.
    """
    assert settings.profile is not None
    recipe = dataclasses.replace(settings.recipe, num_steps=settings.profile.num_steps)
    if settings.profile.start == "shared":
        return recipe
    return dataclasses.replace(recipe, lambda_weighting=LambdaSettings(kind="none"))


def exits_of(settings: StudySettings) -> TunedExits:
    """Exits of a study's shared fine-tune.

    Random schedules train the cells that schedules of the space visit: for weights to start from,
    whose table it is then too. Uniform depths reach every cell of a table equally often. Without
    steps the table is that of the pretrained weights.
    """
    shared = settings.profile is not None and settings.profile.start == "shared"
    return "schedules" if shared else "uniform"


def load_error_table(folder: RunFolder, settings: StudySettings) -> ErrorTable | None:
    """The table that proposals were made from; None where there is none of these settings."""
    if settings.profile is None:
        return None
    return ProfileFiles(folder, exits_of(settings), settings).finished()


class ProfileFiles:
    """Table, weights, log and saved state of the shared fine-tune with one kind of exits.

    The table is written last: where it lies, everything is done. What it was made from is
    written first, so that nothing is ever continued that began with other settings.

    Args:
        folder: The run folder.
        exits: Of the fine-tune.
        settings: The study, with a section ``profile``.
    """

    def __init__(self, folder: RunFolder, exits: TunedExits, settings: StudySettings) -> None:
        assert settings.profile is not None
        self._tunes = settings.profile.num_steps > 0
        self.table = folder.error_table(exits)
        self.weights = folder.shared_weights(exits)
        self.work = folder.profile / exits
        """Log and saved state."""
        self._origin_file = self.work / "made_from.json"
        self._origin = _origin(settings)

    def finished(self, weights: str | None = None) -> ErrorTable | None:
        """The table, where it was made from these settings; None where it is still to make.

        Args:
            weights: Fingerprint of the pretrained weights; None takes those of the file, since
                a run checks them elsewhere.
        """
        if not self.is_of(weights) or (self._tunes and not self.weights.is_file()):
            return None
        try:
            return ErrorTable.load(self.table)
        except (OSError, ValueError):  # not there yet, or damaged: it is measured again
            return None

    def is_of(self, weights: str | None = None) -> bool:
        """Whether what lies here was begun with these settings and weights."""
        try:
            kept: dict[str, Any] = json.loads(self._origin_file.read_text(encoding="utf-8"))
            of_file = kept.pop("weights")
        except (OSError, ValueError, KeyError, AttributeError):
            return False
        return kept == self._origin and weights in (None, of_file)

    def begin(self, weights: str) -> None:
        """Remove what other settings left, and note these.

        Raises:
            OSError: If the disk fails.
        """
        if self.is_of(weights):
            return
        self._origin_file.unlink(missing_ok=True)
        for path in (self.table, self.weights, self.work / STATE_FILE, self.work / "log.txt"):
            path.unlink(missing_ok=True)
        self.work.mkdir(parents=True, exist_ok=True)
        write_text(
            self._origin_file, json.dumps({**self._origin, "weights": weights}, indent=1) + "\n"
        )


def _origin(settings: StudySettings) -> dict[str, Any]:
    """All settings that the numbers depend on, as JSON gives them back."""
    assert settings.profile is not None
    parts: dict[str, Any] = {
        "backbone": settings.backbone,
        "diffusion": settings.diffusion,
        "data": settings.data,
        "space": settings.space,
        "recipe": shared_recipe(settings),
    }
    plain: dict[str, Any] = {name: dataclasses.asdict(part) for name, part in parts.items()}
    plain |= {
        "trainer": settings.trainer,
        "num_images": settings.profile.num_images,
        "batch_size": settings.evaluation.batch_size,
        "seed": settings.search.seed,
    }
    origin: dict[str, Any] = json.loads(json.dumps(plain))
    return origin

"""Shared weights and error table of a run folder, and whether they fit the settings."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from schedsearch.files.atomic import write_text
from schedsearch.files.strict_json import load_json
from schedsearch.planning.error_table import ErrorTable
from schedsearch.runs.checks.identity import place_in
from schedsearch.runs.folder import STATE_FILE
from schedsearch.runs.starts.files import StartFiles

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings import StudySettings

SEED_OFFSET = 2**31
"""Added to ``search.seed``, which lies below it: no trial trains on these batches."""


class ProfileFiles:
    """What the profile of a run leaves in its folder.

    What it was made from is written first, so that nothing is continued that began with other
    settings. The error table is written last.

    Args:
        folder: The run folder.
        settings: The study.
    """

    def __init__(self, folder: RunFolder, settings: StudySettings) -> None:
        self._folder = folder
        self._settings = settings
        self._origin_file = folder.profile / "made_from.json"

    @property
    def tunes(self) -> bool:
        """Whether trials measure shared weights, which are tuned before the first of them."""
        return self._settings.recipe.weights == "shared"

    @property
    def are_wanted(self) -> bool:
        """Whether the run needs any of these files."""
        return self.tunes or self._settings.profile is not None

    def are_complete(self, weights: str | None = None) -> bool:
        """Whether everything that the run needs was made, from these settings.

        Args:
            weights: Fingerprint of the pretrained weights; None skips their comparison, since
                a run checks them elsewhere.
        """
        if not self._are_of(weights) or (self.tunes and not self.has_shared_weights()):
            return False
        return self._settings.profile is None or self.error_table() is not None

    def has_shared_weights(self) -> bool:
        """Whether shared weights of these settings are there."""
        return self._are_of() and self._folder.shared_weights.is_file()

    def error_table(self) -> ErrorTable | None:
        """The table of these settings; None where there is none, or it is damaged."""
        if self._settings.profile is None or not self._are_of():
            return None
        try:
            path = self._folder.error_table
            return ErrorTable.load(path, place_in(self._folder, path))
        except (OSError, ValueError):  # it is measured again
            return None

    def begin(self, weights: str) -> None:
        """Remove what other settings left, and note these.

        Raises:
            OSError: If the disk fails.
        """
        if self._are_of(weights):
            return
        folder = self._folder
        self._origin_file.unlink(missing_ok=True)
        left = [folder.error_table, folder.shared_weights]
        for path in (*left, folder.profile / STATE_FILE, folder.profile / "log.txt"):
            path.unlink(missing_ok=True)
        folder.profile.mkdir(parents=True, exist_ok=True)
        origin = {**self._origin(), "weights": weights}
        write_text(self._origin_file, json.dumps(origin, indent=1) + "\n")

    def _are_of(self, weights: str | None = None) -> bool:
        """Whether what lies here was begun with these settings and weights."""
        try:
            kept: dict[str, Any] = load_json(self._origin_file.read_text(encoding="utf-8"))
            of_file = kept.pop("weights")
        except (OSError, ValueError, KeyError, AttributeError):
            return False
        return kept == self._origin() and weights in (None, of_file)

    def _origin(self) -> dict[str, Any]:
        """All that the files depend on."""
        origin, starts = _origin(self._settings), StartFiles(self._folder, self._settings)
        check = starts.check()
        if check is not None and check.keeps_adapters:  # the table is of adapted exits
            origin["adapters"] = check.adapters.adapters_sha256
        return origin


def load_error_table(folder: RunFolder, settings: StudySettings) -> ErrorTable | None:
    """The table that proposals were made from; None where there is none of these settings."""
    return ProfileFiles(folder, settings).error_table()


def _origin(settings: StudySettings) -> dict[str, Any]:
    """All settings that the files depend on, as JSON gives them back."""
    tunes = settings.recipe.weights == "shared"
    parts: dict[str, Any] = {
        "backbone": settings.backbone,
        "diffusion": settings.diffusion,
        "data": settings.data,
        "space": settings.space,
        "recipe": settings.recipe if tunes else None,
        "profile": settings.profile,
    }
    plain: dict[str, Any] = {
        name: None if part is None else dataclasses.asdict(part) for name, part in parts.items()
    }
    plain |= {
        "trainer": settings.trainer if tunes else None,
        "batch_size": settings.evaluation.batch_size,
        "seed": settings.search.seed,
    }
    origin: dict[str, Any] = json.loads(json.dumps(plain))
    return origin

"""Where adapters and their check lie in a run folder, and whether they fit the settings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from schedsearch.exceptions import StorageError
from schedsearch.files.digest import sha256_of
from schedsearch.runs.checks.identity import place_in
from schedsearch.runs.starts.records import AdaptersRecord, StartCheck, StartRecord

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings import StudySettings
    from schedsearch.settings.recipe import Start

RECORD = "record.json"
"""Name of a :class:`StartRecord` in the folder of its fine-tune."""

LEFT_OUT = ("confirm_", "latency_")
"""Settings of ``evaluation`` that change neither adapters nor their check."""


class StartFiles:
    """What ``recipe.start: adapters`` leaves in a run folder.

    Args:
        folder: The run folder.
        settings: The study.
    """

    def __init__(self, folder: RunFolder, settings: StudySettings) -> None:
        self._folder = folder
        self._settings = settings

    @property
    def are_wanted(self) -> bool:
        """Whether the run asks for adapters."""
        return self._settings.recipe.start == "adapters"

    @property
    def are_complete(self) -> bool:
        """Whether trials can start: the check is done, and adapters that it keeps are there."""
        check = self.check()
        return check is not None and (not check.keeps_adapters or self.has_adapters())

    @cached_property
    def made_from(self) -> str:
        """Digest of all settings that adapters and their check depend on."""
        settings = self._settings
        evaluation = {
            key: value
            for key, value in dataclasses.asdict(settings.evaluation).items()
            if not key.startswith(LEFT_OUT)
        }
        parts: dict[str, Any] = {
            name: dataclasses.asdict(getattr(settings, name))
            for name in ("backbone", "diffusion", "data", "space", "recipe", "solver")
        }
        parts |= {"evaluation": evaluation, "trainer": settings.trainer}
        parts |= {"warm_start": settings.warm_start, "seed": settings.search.seed}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def adapters_record(self, weights: str | None = None) -> AdaptersRecord | None:
        """The record of adapters of these settings; None where there is none.

        Args:
            weights: Fingerprint of the pretrained weights; None skips their comparison, since
                a run checks them elsewhere.
        """
        path = self._folder.adapters_record
        record = AdaptersRecord.read(path, place_in(self._folder, path))
        return record if record is not None and self._fits(record, weights) else None

    def has_adapters(self, weights: str | None = None) -> bool:
        """Whether fitted adapters of these settings are there, undamaged."""
        record = self.adapters_record(weights)
        try:
            return record is not None and record.sha256 == sha256_of(self._folder.adapters)
        except OSError:
            return False

    def record(self, start: Start, weights: str | None = None) -> StartRecord | None:
        """The outcome of one start; None where there is none of these settings."""
        path = self._folder.start_check(start) / RECORD
        record = StartRecord.read(path, place_in(self._folder, path))
        return record if record is not None and self._fits(record, weights) else None

    def check(self) -> StartCheck | None:
        """Both outcomes; None where one is missing, or the run asks for no adapters."""
        if not self.are_wanted:
            return None
        plain, adapters = self.record("plain"), self.record("adapters")
        if plain is None or adapters is None:
            return None
        if plain.depths != adapters.depths:
            return None
        return StartCheck(plain=plain, adapters=adapters)

    def use_adapters(self) -> bool:
        """Whether the trials of the run start from adapters.

        Raises:
            StorageError: If the run asks for them, and the check is missing.
        """
        if not self.are_wanted:
            return False
        if (check := self.check()) is None:
            raise StorageError(
                f"Trials need the check of recipe.start, but {self._folder.profile / 'start'} "
                "holds none of these settings. Run the same command again."
            )
        return check.keeps_adapters

    def may_use_adapters(self) -> bool:
        """The same, and True as long as nothing is decided."""
        check = self.check()
        return self.are_wanted and (check is None or check.keeps_adapters)

    def _fits(self, record: AdaptersRecord | StartRecord, weights: str | None) -> bool:
        return record.made_from == self.made_from and weights in (None, record.weights)

"""Rules for the shared fine-tune, the error table, and what is made from them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from schedsearch.settings import ProfileSettings, SearchSettings, StudySettings

if TYPE_CHECKING:
    from schedsearch.files.problems import Findings, KeyPath


def check_profile(profile: ProfileSettings | None, findings: Findings) -> None:
    """Trials can start from shared weights only where some are tuned."""
    if profile is not None and profile.start == "shared" and profile.num_steps == 0:
        findings.add(
            ("profile", "start"),
            "shared weights need a shared fine-tune, but profile.num_steps is 0",
            "set profile.num_steps to 1 or more, or start to pretrained",
        )


def check_table_seeds(
    profile: ProfileSettings | None, search: SearchSettings, findings: Findings
) -> None:
    """Seeds come from the error table; a file that asks for them needs one.

    The default asks for nothing: without a profile it counts as 0.
    """
    at: KeyPath = ("search", "dp_seeds")
    asked = at in findings.marks or at in findings.overrides
    if profile is None and asked and search.dp_seeds:
        findings.add(
            at,
            f"seeds come from the error table, but profile is null; got {search.dp_seeds}",
            "set it to 0, or remove profile: null",
        )


def without_table_seeds(settings: StudySettings) -> SearchSettings:
    """The section ``search``, with no seeds where there is no error table."""
    if settings.profile is not None or not settings.search.dp_seeds:
        return settings.search
    return dataclasses.replace(settings.search, dp_seeds=0)

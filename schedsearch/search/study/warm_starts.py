"""The warm starts of a search as schedules: presets scaled, files read."""

from __future__ import annotations

from collections.abc import Mapping

from schedsearch.config.backbone_rules import shipped_family
from schedsearch.config.warm_starts import WarmStart, number_of_trials, resolve_warm_starts
from schedsearch.files.problems import Findings
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings import StudySettings

__all__ = ["WarmStart", "read_warm_starts"]


def read_warm_starts(
    settings: StudySettings,
    num_exit_blocks: int | None,
    file: str = "space.yaml",
    twins: Mapping[str, ExitSchedule] | None = None,
) -> list[WarmStart]:
    """The different warm starts in the order of the file; of equal schedules the first.

    Args:
        settings: A valid search space file.
        num_exit_blocks: Exit blocks of the backbone; None if only its class can tell.
        file: Name of the search space file for messages.
        twins: Static twins by row; None leaves them out.

    Raises:
        InvalidFileError: If a schedule is outside the space, a schedule file is not valid, or
            there are more warm starts than trials.
    """
    findings = Findings(file)
    starts = resolve_warm_starts(
        settings.warm_start,
        settings.space,
        findings,
        num_exit_blocks=num_exit_blocks,
        family=shipped_family(settings.backbone),
        clock=settings.diffusion.clock,
        twins=twins,
    )
    if not findings.problems:
        findings.add_all(number_of_trials(settings.search, len(starts)))
    findings.raise_if_any()
    return starts

"""The warm starts of a search as schedules: presets scaled, files read."""

from __future__ import annotations

from dataclasses import dataclass

from schedsearch.config.backbone_rules import shipped_family
from schedsearch.config.rules import check_number_of_trials
from schedsearch.config.warm_starts import WARM_START
from schedsearch.exceptions import ConfigError
from schedsearch.files.problems import Findings, InvalidFileError
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL, HAND_MADE, preset_for
from schedsearch.schedules.schedule_file import read_schedule_file
from schedsearch.settings import StudySettings


@dataclass(frozen=True, slots=True)
class WarmStart:
    """A schedule to measure before the search proposes its own."""

    label: str
    """``full``, the preset's name, the name in the schedule file, or ``warm-start-3``."""
    schedule: ExitSchedule


def read_warm_starts(
    settings: StudySettings, num_exit_blocks: int, file: str = "space.yaml"
) -> list[WarmStart]:
    """The different warm starts in the order of the file; of equal schedules the first.

    Args:
        settings: A valid search space file.
        num_exit_blocks: Exit blocks of the backbone, from the backbone itself.
        file: Name of the search space file for messages.

    Raises:
        InvalidFileError: If a schedule lies outside the space, a schedule file is not valid,
            or there are more warm starts than trials.
    """
    space, findings = settings.space.build(), Findings(file)
    found: dict[ExitSchedule, WarmStart] = {}
    for i, entry in enumerate(settings.warm_start):
        try:
            start = _read(entry, i, settings, num_exit_blocks)
        except InvalidFileError as error:
            findings.problems += error.problems
            continue
        except ConfigError as error:
            findings.add((WARM_START, i), str(error))
            continue
        if (reason := space.why_not(start.schedule)) is not None:
            findings.add(
                (WARM_START, i),
                f"{start.label} ({start.schedule}) is not in the space: {reason}",
                "change the space, or remove the entry",
            )
        else:
            found.setdefault(start.schedule, start)
    if not findings.problems:
        check_number_of_trials(settings.search, len(found), findings)
    findings.raise_if_any()
    return list(found.values())


def _read(
    entry: str | tuple[int, ...], index: int, settings: StudySettings, num_exit_blocks: int
) -> WarmStart:
    space = settings.space
    if isinstance(entry, tuple):
        return WarmStart(f"warm-start-{index}", ExitSchedule(entry))
    if entry == FULL:
        return WarmStart(FULL, ExitSchedule.flat(num_exit_blocks, space.num_intervals))
    if entry in HAND_MADE:
        scaled = preset_for(
            entry, num_exit_blocks, min_depth=space.min_depth, max_depth=space.max_depth
        )
        return WarmStart(entry, scaled)
    file = read_schedule_file(entry)
    if file.backbone.num_exit_blocks != num_exit_blocks:
        raise ConfigError(
            f"{entry} is for {file.backbone.num_exit_blocks} exit blocks, but the backbone has "
            f"{num_exit_blocks}"
        )
    family = shipped_family(settings.backbone)
    if family is not None and file.backbone.family != family:
        raise ConfigError(
            f"{entry} is for the family {file.backbone.family}, but the backbone is a {family}"
        )
    return WarmStart(file.name, file.schedule)

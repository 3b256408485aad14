"""Static twins as warm starts: what a comparison in the same run folder has measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.config.warm_starts import TWIN_OF, twin_row
from schedsearch.exceptions import ConfigError
from schedsearch.formatting import for_shell
from schedsearch.methods.loading import load_method
from schedsearch.runs.checks.identity import place_in
from schedsearch.runs.checks.rules import method_rules
from schedsearch.runs.journal import Journal
from schedsearch.runs.methods.digests import digest_of, rivals_in
from schedsearch.runs.methods.records import RivalRecord
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings.rows import TWIN, rows_of
from schedsearch.workers.rivals.row_files import METHOD

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings import StudySettings


def measured_twins(settings: StudySettings, folder: RunFolder) -> dict[str, ExitSchedule]:
    """The twins that the warm starts name, by the row that they belong to.

    Args:
        settings: The search space.
        folder: Its run folder.

    Raises:
        ConfigError: If one was not measured there, or with other settings of its row.
        StorageError: If a record of the comparison is damaged.
    """
    wanted = [row for entry in settings.warm_start if (row := twin_row(entry)) is not None]
    if not wanted:
        return {}
    rows, seed = {row.name: row for row in rows_of(rivals_in(settings), {})}, settings.search.seed
    measured = {
        record.name: record.config_sha256
        for record in _rivals(settings, folder).read()
        if record.training_seed == seed and record.failed is None
    }
    files = {row: folder.method(row + TWIN) / METHOD for row in wanted}
    missing = [
        TWIN_OF + row
        for row in wanted
        if measured.get(row + TWIN) != digest_of(settings, rows[row], seed)
        or not files[row].is_file()
    ]
    if missing:
        raise ConfigError(
            f"warm_start names {', '.join(missing)}, but {folder.shown} holds no such row with "
            f"these settings. Run `schedsearch compare SPACE --output {for_shell(folder.shown)}` "
            "first."
        )
    found = {}
    for row, file in files.items():
        method = load_method(file, place_in(folder, file)).method
        if not isinstance(method, ExitSchedule):
            raise ConfigError(
                f"{file}: a static twin must be a method of kind schedule. Delete the rows of "
                f"{row} in {folder.rivals_file} and run `schedsearch compare` again."
            )
        found[row] = method
    return found


def _rivals(settings: StudySettings, folder: RunFolder) -> Journal[RivalRecord]:
    return Journal(
        folder.rivals_file,
        RivalRecord.from_json,
        rules=lambda: method_rules(settings),
        place=place_in(folder, folder.rivals_file),
    )

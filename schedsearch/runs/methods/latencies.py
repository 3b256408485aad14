"""``methods/latency.json``: latencies of the rows of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.exceptions import StorageError
from schedsearch.files.strict_json import check_numbers
from schedsearch.runs.checks.identity import read_own, write_own
from schedsearch.runs.checks.journals import line_counts

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder

_NAME = "methods/latency.json"
"""Key of the file's number of rows in ``lines.json``."""

POSITIVE = ("ms", "ratio", "p95_ms", "full_ms")
"""Keys of a row that are above zero; ``half_width`` is a number too."""


def read_latencies(folder: RunFolder) -> dict[str, Any]:
    """Latencies by row, with their protocol; empty before the first is measured.

    Raises:
        StorageError: If the file is damaged or gone.
    """
    try:
        data = read_own(folder, folder.method_latency_file)
        for row in data["rows"].values():
            for key in POSITIVE:
                check_numbers(row[key], key, least=1e-9)
            check_numbers(row["half_width"], "half_width", least=0)
        if not isinstance(data["protocol"], dict) or not isinstance(data["digests"], dict):
            raise ValueError("protocol and digests are objects.")
    except FileNotFoundError:
        if line_counts(folder).of(_NAME):
            raise StorageError(
                f"{folder.method_latency_file} is gone, and the times of the methods with it. "
                "Restore it from a backup, or run the command that made it again: it is measured "
                "again."
            ) from None
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StorageError(
            f"Cannot read {folder.method_latency_file}: {str(error).rstrip('.')}. Delete it; "
            "it is measured again."
        ) from error
    return data


def write_latencies(folder: RunFolder, data: Mapping[str, Any]) -> None:
    """Replace the file.

    Raises:
        StorageError: If it cannot be written.
    """
    write_own(folder, folder.method_latency_file, data)
    line_counts(folder).note(_NAME, len(data["rows"]))


def accept_lost_latencies(folder: RunFolder) -> None:
    """Forget a file that is gone, before its rows are measured again."""
    if not folder.method_latency_file.exists():
        line_counts(folder).note(_NAME, 0)

"""``methods/latency.json``: latencies of the rows of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.exceptions import StorageError
from schedsearch.files.strict_json import check_numbers, read_document, to_document

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder

POSITIVE = ("ms", "ratio", "p95_ms", "full_ms")
"""Keys of a row that are above zero; ``half_width`` is a number too."""


def read_latencies(folder: RunFolder) -> dict[str, Any]:
    """Latencies by row, with their protocol; empty before the first is measured.

    Raises:
        StorageError: If the file is damaged.
    """
    try:
        data = read_document(folder.method_latency_file)
        for row in data["rows"].values():
            for key in POSITIVE:
                check_numbers(row[key], key, least=1e-9)
            check_numbers(row["half_width"], "half_width", least=0)
        if not isinstance(data["protocol"], dict) or not isinstance(data["digests"], dict):
            raise ValueError("protocol and digests are objects.")
    except FileNotFoundError:
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
    folder.write(folder.method_latency_file, to_document(data))

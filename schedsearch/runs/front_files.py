"""The front as JSON, YAML, CSV and plain data."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from schedsearch.files.atomic import write_text
from schedsearch.exceptions import StorageError

if TYPE_CHECKING:
    from schedsearch.runs.results import FrontEntry
    from schedsearch.runs.folder import RunFolder


def front_rows(entries: Sequence[FrontEntry]) -> list[dict[str, Any]]:
    """Plain data, one object per schedule, in the order given."""
    rows = []
    for entry in entries:
        row = asdict(entry)
        row["depths"] = list(entry.depths)
        row["fid_ci95"] = None if entry.fid_ci95 is None else list(entry.fid_ci95)
        rows.append(row)
    return rows


def front_as_json(entries: Sequence[FrontEntry]) -> str:
    """The contract's list of objects."""
    return json.dumps(front_rows(entries), indent=2, allow_nan=False) + "\n"


def front_as_yaml(entries: Sequence[FrontEntry]) -> str:
    """The same list as YAML."""
    import yaml

    return yaml.safe_dump(front_rows(entries), sort_keys=False, default_flow_style=None, width=99)


def front_as_csv(entries: Sequence[FrontEntry]) -> str:
    """The same list as CSV; depths are separated by blanks."""
    rows = front_rows(entries)
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        row["depths"] = " ".join(map(str, row["depths"]))
        row["fid_ci95"] = " ".join(f"{value:.6g}" for value in row["fid_ci95"] or ())
        writer.writerow(row)
    return text.getvalue()


def write_front(entries: Sequence[FrontEntry], folder: RunFolder) -> None:
    """Replace ``front.yaml`` and ``front.csv``.

    Raises:
        StorageError: If they cannot be written.
    """
    try:
        write_text(folder.front_yaml, front_as_yaml(entries))
        write_text(folder.front_csv, front_as_csv(entries))
    except OSError as error:
        raise StorageError(
            f"Cannot write {folder.front_yaml}: {error}. Free space and run the same command "
            "again; finished trials are kept."
        ) from error

"""The front as JSON, YAML, CSV and plain data."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schedsearch.runs.entry import FrontEntry
    from schedsearch.runs.folder import RunFolder


def front_row(entry: FrontEntry) -> dict[str, Any]:
    """One schedule as plain data."""
    held_out, audit, latency = entry.held_out_fid, entry.audit_fid, entry.latency
    return {
        "trial": entry.trial,
        "name": entry.name,
        "origin": entry.record.origin,
        "depths": list(entry.depths),
        "fid": entry.fid,
        "kid": entry.evaluation.kid,
        "num_samples": entry.evaluation.num_samples,
        "features": entry.evaluation.features,
        "latency_ms": latency.ms,
        "latency_half_width_ms": latency.half_width_ms,
        "latency_source": latency.source,
        "predicted_latency_ms": latency.predicted_ms,
        "acceleration": latency.acceleration,
        "fid_held_out": None if held_out is None else held_out.mean,
        "fid_ci95": None if held_out is None else list(held_out.ci95),
        "fid_audit": None if audit is None else audit.mean,
        "confirm_seeds": len(entry.confirmed),
        "confirm_samples": entry.confirmed[0].num_samples if entry.confirmed else None,
    }


def front_as_json(entries: Sequence[FrontEntry]) -> str:
    """A list of objects, one per schedule, in the order given."""
    return json.dumps([front_row(e) for e in entries], indent=2, allow_nan=False) + "\n"


def front_as_yaml(entries: Sequence[FrontEntry]) -> str:
    """The same list as YAML."""
    import yaml

    rows = [front_row(entry) for entry in entries]
    return yaml.safe_dump(rows, sort_keys=False, default_flow_style=None, width=99)


def front_as_csv(entries: Sequence[FrontEntry]) -> str:
    """The same list as CSV; depths are separated by blanks."""
    rows = [front_row(entry) for entry in entries]
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
    folder.write(folder.front_yaml, front_as_yaml(entries))
    folder.write(folder.front_csv, front_as_csv(entries))

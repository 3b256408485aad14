"""The front as JSON, YAML, CSV and plain data."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
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
        **edges_row(entry),
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
        **asdict(entry.judges),
        "confirm_seeds": len(entry.confirmed),
        "confirm_samples": entry.confirmed[0].num_samples if entry.confirmed else None,
    }


def edges_row(entry: FrontEntry) -> dict[str, Any]:
    """Edges of a schedule's intervals as plain data; empty for equal ones."""
    edges = entry.schedule.edges
    return {} if edges is None else {"edges": list(edges)}


def front_as(form: str, entries: Sequence[FrontEntry]) -> str:
    """One object per schedule, in the order given, as ``json``, ``yaml`` or ``csv``."""
    return rows_as(form, [front_row(entry) for entry in entries])


def rows_as(form: str, rows: Sequence[dict[str, Any]]) -> str:
    """Plain data in a format: ``json``, ``yaml`` or ``csv``."""
    if form == "json":
        return json.dumps(list(rows), indent=2, allow_nan=False) + "\n"
    if form == "yaml":
        import yaml

        return yaml.safe_dump(list(rows), sort_keys=False, default_flow_style=None, width=99)
    return _as_csv(rows)


def _as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """CSV; depths, edges and intervals are separated by blanks."""
    if not rows:
        return ""
    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        depths = " ".join(map(str, row["depths"] or ()))
        interval = " ".join(f"{value:.6g}" for value in row["fid_ci95"] or ())
        texts = {"depths": depths, "fid_ci95": interval}
        if "edges" in row:
            texts["edges"] = " ".join(f"{value:.6g}" for value in row["edges"])
        writer.writerow({**row, **texts})
    return text.getvalue()


def write_front(entries: Sequence[FrontEntry], folder: RunFolder) -> None:
    """Replace ``front.yaml`` and ``front.csv``.

    Raises:
        StorageError: If they cannot be written.
    """
    folder.write(folder.front_yaml, front_as("yaml", entries))
    folder.write(folder.front_csv, front_as("csv", entries))

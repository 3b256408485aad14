"""From a folder of rows to a table that ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.schedulebench.rows import RowFolder
from benchmarks.schedulebench.side_tables import Variant, read_side_tables
from benchmarks.schedulebench.tables import Table
from schedsearch.config import dump_settings
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.evaluation.latency_table import LatencyTable
from schedsearch.exceptions import ConfigError
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings import StudySettings

Depths = tuple[int, ...]


def pack(
    folder: Path,
    settings: StudySettings,
    variants: Sequence[Variant],
    sunk_cost: Mapping[str, Any],
) -> Table:
    """The table of a folder; only seeds at which every schedule was measured count.

    Args:
        folder: Of the rows.
        settings: The study of the table, for its solver.
        variants: The error tables that belong to it, the default first.
        sunk_cost: What the rows cost and no proposer pays for, for the table's protocol.

    Raises:
        ConfigError: If rows or side tables are missing.
    """
    rows = RowFolder.open(folder)
    protocol = rows.protocol()
    levels = tuple(protocol["levels"])
    fids: dict[Depths, dict[int, float]] = {}
    for values in (row.values for row in rows.rows()):
        if "depths" not in values:
            continue
        found = fids.setdefault(tuple(values["depths"]), {})
        if "seed" in values:
            found[values["seed"]] = values["fid"]
        else:
            found.update(zip(protocol["seeds"], values["fid"], strict=True))
    seeds = [seed for seed in protocol["seeds"] if all(seed in of_one for of_one in fids.values())]
    if not seeds:
        raise ConfigError(f"{folder} holds no seed at which all schedules were measured yet.")
    side = read_side_tables(folder, levels, variants)
    latency_table = side.pop("latency_table")
    latency = LatencyTable.from_dict(latency_table)
    times = build_solver(settings.solver, build_process(settings.diffusion)).times
    order = sorted(fids, reverse=True)
    probe = ExitSchedule(tuple(range(protocol["num_intervals"]))).visited(times)
    try:
        return Table(
            name=protocol["table"],
            levels=levels,
            weights=tuple(probe.count(i) for i in range(protocol["num_intervals"])),
            depths=np.array(order, dtype=np.int8),
            fid=np.array([[fids[d][s] for s in seeds] for d in order], dtype=np.float32),
            latency_ms=np.array(
                [latency.predict(ExitSchedule(d), times) for d in order], dtype=np.float32
            ),
            protocol=_described({**protocol, **sunk_cost}, settings, seeds, latency_table),
            **side,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _described(
    protocol: dict[str, Any],
    settings: StudySettings,
    seeds: list[int],
    latency_table: dict[str, Any],
) -> dict[str, Any]:
    """The protocol with all that the numbers hang on, but no path of this machine."""
    lines = dump_settings(settings).splitlines()
    text = "\n".join(line for line in lines if not line.strip().startswith("checkpoint:"))
    return {**protocol, "seeds": seeds, "latency_table": latency_table, "study": text}

"""Do sums of an error table rank schedules as their FIDs do, and which table does so best?

    python -m benchmarks.table_ranking

Every error table that ships with ScheduleBench, weighted by alpha(t) as the tool does and plain,
against the measured FIDs of all schedules of its space; seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.result_tables import Row
from benchmarks.result_tables import Table as Page
from benchmarks.schedulebench.tables import Table, shipped
from schedsearch.config import settings_from_text
from schedsearch.diffusion.process import build_process
from schedsearch.evaluation.error_table import stratified_times
from schedsearch.planning.cells import visited_excess
from schedsearch.protocols import NoiseProcess

Floats = NDArray[np.float64]

SPACES = ("digits", "uvit")

PAIRS = 500_000
"""Compared pairs; all of them where there are fewer."""


def mean_weights(process: NoiseProcess, num_intervals: int) -> Floats:
    """alpha(t)'s mean in each interval, (num_intervals, 1)."""
    generator = torch.Generator().manual_seed(0)
    rows = [
        stratified_times(process, interval, num_intervals, 1000, generator)
        for interval in range(num_intervals)
    ]
    return np.array([[process.scales(times)[0].mean().item()] for times in rows])


def sums(costs: Floats, columns: NDArray[np.int64]) -> Floats:
    """What a table says of each schedule.

    Args:
        costs: Excess losses, (num_intervals, num_levels).
        columns: Schedules, (N, num_intervals), as columns of the table.
    """
    return np.asarray(costs[np.arange(len(costs)), columns].sum(1))


def agreement(proxies: Mapping[str, Floats], fid: Floats, blocks: NDArray[np.int64]) -> list[Row]:
    """Kendall's tau of each proxy with the FIDs, over all pairs and over those of equal cost.

    Args:
        proxies: By name, (N,); what is higher should have the higher FID.
        fid: (N,).
        blocks: Blocks of one solver run, (N,): two schedules with equally many are a pair that a
            count of blocks cannot rank.
    """
    first, second = np.triu_indices(len(fid), 1)
    if len(first) > PAIRS:
        chosen = np.random.default_rng(0).choice(len(first), PAIRS, replace=False)
        first, second = first[chosen], second[chosen]
    alike = blocks[first] == blocks[second]
    truth = np.sign(fid[first] - fid[second])
    rows: list[Row] = []
    for name, proxy in proxies.items():
        agree = np.sign(proxy[first] - proxy[second]) * truth
        rows.append({"ranked by": name, "tau": float(agree.mean())})
        rows[-1]["tau, equal blocks"] = float(agree[alike].mean())
    return rows


def ranking(table: Table) -> Page:
    """All error tables of a space."""
    settings = settings_from_text(table.protocol["study"])
    weights = mean_weights(build_process(settings.diffusion), len(table.weights))
    columns = np.searchsorted(np.array(table.levels), table.depths).astype(np.int64)
    blocks = table.depths.astype(np.int64) @ np.array(table.weights)
    proxies: dict[str, Floats] = {"blocks": -blocks.astype(np.float64)}
    for key, errors in table.error_tables.items():
        costs = visited_excess(errors, table.space, table.weights)
        title = f"table, {errors.num_steps} steps with {key} exits" if errors.num_steps else key
        proxies[f"{title}, weighted"] = sums(costs, columns)
        proxies[f"{title}, plain"] = sums(costs / weights, columns)
    fid = table.fid.astype(np.float64).mean(1)
    note = (
        f"Kendall's tau with the mean FID of {table.fid.shape[1]} evaluation seeds, over "
        f"{len(fid)} schedules ({table.protocol['weights']}), and over the pairs that run equally "
        "many blocks. Weighted: by alpha(t); plain: the same over alpha's mean in the interval, "
        "nearly the mean squared error of the noise."
    )
    formats = {"ranked by": "", "tau": ".2f", "tau, equal blocks": ".2f"}
    rows = agreement(proxies, fid, blocks)
    return Page(title=table.name, note=note, columns=formats, rows=rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.table_ranking",
        description=(__doc__ or "").partition("\n\n")[0],
    )
    parser.add_argument("--space", action="append", choices=SPACES, help="default: both")
    for name in parser.parse_args(arguments).space or SPACES:
        print(ranking(Table.load(shipped(name))).to_markdown())


if __name__ == "__main__":
    main()

"""The static twin of a dynamic method: the schedule of its mean depths."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.methods.exits.freeze import frozen_schedule
from schedsearch.methods.kinds import build_method, numbers_of
from schedsearch.methods.method_file import write_method_file
from schedsearch.runs.checks.identity import place_in
from schedsearch.runs.folder import RunFolder
from schedsearch.settings.rows import TWIN
from schedsearch.workers.rivals.account import blocks_by_call, num_blocks_of, sampled
from schedsearch.workers.rivals.networks import WEIGHTS
from schedsearch.workers.rivals.row_files import METHOD, link_file, method_file_of
from schedsearch.workers.rivals.row_record import measured_record
from schedsearch.workers.rivals.thresholds import Calibrated

if TYPE_CHECKING:
    from schedsearch.methods.method_file import MethodFile
    from schedsearch.runs.methods.records import RivalRecord
    from schedsearch.workers.rivals.row_record import OpenRow


def measure_twin(
    row: OpenRow, file: MethodFile, target: Path, weights: Path | None
) -> RivalRecord:
    """Measure the twin of a row on the same network, and write its method file.

    Args:
        row: The row.
        file: Its method.
        target: Its folder; the twin's lies beside it, or in it for a further training seed.
        weights: Weights of the network, if it has some.
    """
    bench, net, name = row.bench, row.net, row.job.row.name
    settings = bench.settings.evaluation
    method = build_method(file.kind, file.numbers, None, net.num_exit_blocks)
    _, runs = sampled(bench, net, method, bench.solver, settings.seed, settings.num_samples)
    schedule = frozen_schedule(
        blocks_by_call(runs),
        bench.solver.times,
        net.num_exit_blocks,
        num_blocks_of(net) - net.num_exit_blocks,
        bench.settings.space.num_intervals,
        bench.settings.space.interval_edges,
    )
    folder = target.parent / (name + TWIN) if target.name == name else target / "twin"
    folder.mkdir(parents=True, exist_ok=True)
    run = RunFolder.of(row.job.run_dir)
    if weights is not None:
        link_file(weights, folder / WEIGHTS)
    numbers = numbers_of(schedule, bench.settings.diffusion.clock)
    found = Calibrated(kind="schedule", numbers=numbers)
    twin = method_file_of(bench, name + TWIN, found, file.network, weights)
    record = measured_record(row, twin, "schedule", found, folder)
    write_method_file(folder / METHOD, twin, place=place_in(run, folder / METHOD) or "")
    return record

"""Measures one row of a comparison: network, calibration, quality, static twin."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.methods.method_file import write_method_file
from schedsearch.methods.networks import build_network
from schedsearch.runs.checks.identity import place_in
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.methods.digests import entry_in
from schedsearch.runs.methods.records import RivalRecord
from schedsearch.settings.rivals import StitchRival
from schedsearch.workers.rivals.calibration import calibrated
from schedsearch.workers.rivals.networks import WEIGHTS, network_folder, open_network
from schedsearch.workers.rivals.row_files import METHOD, link_file, method_file_of, row_folder
from schedsearch.workers.rivals.row_record import OpenRow, measured_record
from schedsearch.workers.rivals.twin import measure_twin
from schedsearch.workers.workbench import open_workbench

if TYPE_CHECKING:
    from schedsearch.workers.jobs import RowJob


def measure_row(job: RowJob) -> tuple[RivalRecord, ...]:
    """Calibrate and measure a row; of a dynamic method its static twin too.

    Raises:
        TrialError: If samples or features are not finite.
        ConfigError: If the method does not fit the network.
        OSError: If the disk fails.
    """
    began = time.perf_counter()
    folder = RunFolder.of(job.run_dir)
    bench = open_workbench(job.settings, str(folder.reference))
    entry = entry_in(bench.settings, job.row)
    target = row_folder(folder, job.row.name, job.training_seed, bench)
    target.mkdir(parents=True, exist_ok=True)
    # Build and calibrate.
    net, network = open_network(bench, folder, job.row, job.training_seed)
    structure: Mapping[str, Any] = network.network
    weights = None
    if job.row.net is not None and job.training_seed is not None:
        weights = network_folder(folder, job.row.net, job.training_seed) / WEIGHTS
    if isinstance(entry, StitchRival):
        structure = {"small": structure}
        net = build_network(structure, bench.fresh_backbone(), weights)
    found = calibrated(bench, folder, job.row, entry, net, target)
    weights = found.weights or weights
    if weights is not None and weights.parent != target:
        link_file(weights, target / WEIGHTS)
        weights = target / WEIGHTS
    # Measure.
    row = OpenRow(bench=bench, job=job, net=net, network=network)
    file = method_file_of(bench, job.row.name, found, structure, weights)
    records = [measured_record(row, file, entry.kind, found, target)]
    write_method_file(target / METHOD, file, place=place_in(folder, target / METHOD) or "")
    if job.row.has_twin:
        records.append(measure_twin(row, file, target, weights))
    seconds = round((time.perf_counter() - began) / len(records), 3)
    return tuple(dataclasses.replace(record, seconds=seconds) for record in records)

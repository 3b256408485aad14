"""Control images in a worker process: what corrects the FIDs of trials."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from schedsearch.evaluation.control import part_is_sound, save_part
from schedsearch.schedule import ExitSchedule
from schedsearch.search.run_folder import RunFolder
from schedsearch.search.workbench import open_workbench

if TYPE_CHECKING:
    from schedsearch.search.jobs import ControlJob


def sample_control(job: ControlJob) -> str:
    """Sample a trial's number of images at full depth with the pretrained network; keep them once.

    Returns:
        JSON with the ``seed`` and the ``seconds`` it took.

    Raises:
        TrialError: If samples are not finite.
        OSError: If the disk fails.
    """
    began = time.perf_counter()
    bench = open_workbench(job.settings, str(RunFolder.of(job.run_dir).reference))
    evaluation, target = bench.settings.evaluation, bench.control_file(job.seed)
    if not part_is_sound(target):
        net = bench.fresh_backbone()
        full = ExitSchedule.flat(net.num_exit_blocks, bench.settings.space.num_intervals)
        found = bench.measure(net, full, seed=job.seed, num_samples=evaluation.num_samples)
        save_part(found.features, target, whole=job.seed in evaluation.trial_seeds_used)
    return json.dumps({"seed": job.seed, "seconds": round(time.perf_counter() - began, 3)})

"""A finished trial's schedule in a worker process, fine-tuned anew with another training seed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, cast

from schedsearch.backbones.weights.checkpoint import save_weights
from schedsearch.workers.confirm import SEED_OFFSET, continued, finetuned
from schedsearch.workers.progress import FileProgress
from schedsearch.runs.folder import RunFolder
from schedsearch.workers.workbench import open_workbench

if TYPE_CHECKING:
    from torch import nn

    from schedsearch.workers.jobs import RetrainJob


def retrain(job: RetrainJob) -> str:
    """Fine-tune from the pretrained weights as a trial does, and keep the EMA weights.

    They appear whole or not at all. An attempt that died is continued from its last saved state,
    and one that was finished already is not done again.

    Returns:
        JSON with the trial's ``number``, the ``training_seed`` and the ``seconds`` it took.

    Raises:
        TrialError: If the fine-tune diverges.
        OSError: If the disk fails.
    """
    folder, began = RunFolder.of(job.run_dir), time.perf_counter()
    target = folder.retrained(job.number, job.training_seed)
    if not target.is_file():
        bench = open_workbench(job.settings, str(folder.reference))
        recipe, seed, work = bench.settings.recipe, job.training_seed, target.parent
        net = finetuned(bench.fresh_backbone(), job.depths, bench, recipe, seed, work)
        if job.num_steps:
            further = continued(recipe, job.num_steps)
            again = SEED_OFFSET + seed
            net = finetuned(net, job.depths, bench, further, again, work / "promotion")
        metadata = {"trial": str(job.number), "training_seed": str(seed)}
        save_weights(cast("nn.Module", net), target, metadata)
        for path in (work, work / "promotion"):
            FileProgress(path, save_every=recipe.save_every).done()
    seconds = round(time.perf_counter() - began, 3)
    return json.dumps(
        {"number": job.number, "training_seed": job.training_seed, "seconds": seconds}
    )

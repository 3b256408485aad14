"""Measures a finished trial's schedule again: held-out seeds, or retrained weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from schedsearch.backbones.weights.checkpoint import save_weights
from schedsearch.records import ConfirmRecord
from schedsearch.runs.checks.own_weights import mark_of
from schedsearch.runs.folder import RunFolder
from schedsearch.workers.finetune import finetune
from schedsearch.workers.progress import progress_in
from schedsearch.workers.starts import finished_network, start_network
from schedsearch.workers.workbench import open_workbench

if TYPE_CHECKING:
    from torch import nn

    from schedsearch.protocols import Backbone
    from schedsearch.workers.jobs import ConfirmJob, RetrainJob
    from schedsearch.workers.workbench import Workbench


def confirm(job: ConfirmJob) -> ConfirmRecord:
    """Measure a trial's own weights at a held-out evaluation seed.

    Raises:
        CheckpointError: If the weights are gone.
        TrialError: If samples are not finite.
    """
    folder = RunFolder.of(job.run_dir)
    bench = open_workbench(job.settings, str(folder.reference))
    net = finished_network(bench, folder, job.schedule, folder.weights(job.number))
    return _measured(job, bench, net, job.seed)


def retrain(job: RetrainJob) -> tuple[ConfirmRecord, ...]:
    """Retrain a trial's schedule from the pretrained weights and measure it at every seed.

    The weights stay until the driver has recorded the results. An attempt that died continues
    from its last saved state, and finished weights are not trained again.

    Raises:
        TrialError: If the fine-tune diverges, or samples are not finite.
        OSError: If the disk fails.
    """
    folder = RunFolder.of(job.run_dir)
    bench = open_workbench(job.settings, str(folder.reference))
    target = folder.retrained_weights(job.number, job.training_seed)
    if target.is_file():
        net = finished_network(bench, folder, job.schedule, target)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        progress = progress_in(target.parent, folder, bench.settings)
        start = start_network(bench, folder, job.schedule)
        net = finetune(bench, job.schedule, progress, job.training_seed, net=start)
        about = {
            **mark_of(folder, job.schedule),
            "trial": str(job.number),
            "training_seed": str(job.training_seed),
        }
        save_weights(cast("nn.Module", net), target, about)
        progress.done()
    return tuple(
        _measured(job, bench, net, seed, training_seed=job.training_seed) for seed in job.seeds
    )


def _measured(
    job: ConfirmJob | RetrainJob,
    bench: Workbench,
    net: Backbone,
    seed: int,
    *,
    training_seed: int | None = None,
) -> ConfirmRecord:
    auditor = bench.auditor
    quality = bench.measure(
        net, job.schedule, seed=seed, num_samples=job.num_samples, auditor=auditor
    )
    return ConfirmRecord(
        number=job.number,
        seed=seed,
        num_samples=job.num_samples,
        training_seed=training_seed,
        fid=quality.fid,
        kid=quality.kid,
        sample_std=quality.sample_std,
        features=bench.extractor.name,
        audit_fid=quality.audit_fid,
        audit_features=None if auditor is None else auditor.extractor.name,
        nn_distance=quality.nn_distance,
        near_copies=quality.near_copies,
    )

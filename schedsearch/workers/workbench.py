"""What a process needs to fine-tune and measure: built once, used by every job."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from schedsearch.backbones.guidance import learns_variance
from schedsearch.backbones.weights.checkpoint import load_backbone_from, load_weights
from schedsearch.backbones.weights.claims import check_claims
from schedsearch.config import settings_from_text
from schedsearch.data.loading import load_reference_source, load_source
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.evaluation.features import build_extractor
from schedsearch.evaluation.latency import cost_times, measure_schedules
from schedsearch.evaluation.quality import Auditor, Quality, measure_quality, protocol_digest
from schedsearch.evaluation.real_images.neighbours import load_or_compute_neighbours
from schedsearch.evaluation.real_images.reference import load_or_compute_reference
from schedsearch.exceptions import ConfigError
from schedsearch.schedules.exit_schedule import ExitSchedule

if TYPE_CHECKING:
    from torch import nn

    from schedsearch.data.sources import ImageSource
    from schedsearch.evaluation.features import FeatureExtractor
    from schedsearch.evaluation.real_images.neighbours import TrainingNeighbours
    from schedsearch.evaluation.real_images.reference import Reference
    from schedsearch.protocols import Backbone, Method, NetworkCall, NoiseProcess, Solver
    from schedsearch.settings import StudySettings


@dataclass(frozen=True)
class Workbench:
    """Pretrained network, data, solver and measuring tools of one study."""

    settings: StudySettings
    device: torch.device
    pretrained: nn.Module
    source: ImageSource
    """The training images."""
    reference_source: ImageSource
    """The images that FID compares with, the training images by default."""
    process: NoiseProcess
    solver: Solver
    extractor: FeatureExtractor
    reference_dir: Path

    @cached_property
    def reference(self) -> Reference:
        """Statistics of the real images; computed at first use, since that may take long."""
        return load_or_compute_reference(self.reference_source, self.extractor, self.reference_dir)

    @cached_property
    def neighbours(self) -> TrainingNeighbours | None:
        """Training images to look for copies of; None where pixels are not compared."""
        mirrored = self.settings.data.flip
        return load_or_compute_neighbours(self.source, self.reference_dir, mirrored=mirrored)

    @cached_property
    def visits(self) -> tuple[int, ...]:
        """Network calls of the solver per interval by cost, data -> noise."""
        num_intervals = self.settings.space.num_intervals
        probe = self.settings.space.build().schedule(range(num_intervals))
        counts = Counter(probe.visited(cost_times(self.solver)))
        return tuple(counts[interval] for interval in range(num_intervals))

    def solver_with(self, num_steps: int | None) -> Solver:
        """The study's solver, or the same with another number of steps."""
        if num_steps is None or num_steps == self.settings.solver.num_steps:
            return self.solver
        settings = dataclasses.replace(self.settings.solver, num_steps=num_steps)
        learned = learns_variance(self.pretrained)
        process = build_process(self.settings.diffusion)
        return build_solver(settings, process, learned_variance=learned)

    @property
    def backbone(self) -> Backbone:
        """The pretrained network as the protocol sees it; not to be trained."""
        return cast("Backbone", self.pretrained)

    def fresh_backbone(self) -> Backbone:
        """A copy of the pretrained network, to be trained."""
        return cast("Backbone", copy.deepcopy(self.pretrained))

    def backbone_with(self, weights: Path) -> Backbone:
        """A copy of the network with other weights.

        Raises:
            CheckpointError: If the file is missing or belongs to another model.
        """
        net = self.fresh_backbone()
        load_weights(cast("nn.Module", net), weights)
        return net

    def is_full_depth(self, schedule: ExitSchedule) -> bool:
        """Whether a schedule runs every block at every time."""
        return set(schedule.depths) == {self.backbone.num_exit_blocks}

    @cached_property
    def second_extractor(self) -> FeatureExtractor | None:
        """The extractor of the auditor; loaded at first use.

        Raises:
            ConfigError: If it cannot be loaded, or is the first extractor under another name.
        """
        evaluation = self.settings.evaluation
        if evaluation.auditor is None:
            return None
        extractor = build_extractor(evaluation.auditor, evaluation.auditor_path, self.device)
        if extractor.sha256 == self.extractor.sha256:
            raise ConfigError(
                f"evaluation.auditor must be another extractor than evaluation.features, but "
                f"both are {extractor.name} with the same weights. Name an independent one."
            )
        return extractor

    @cached_property
    def auditor(self) -> Auditor | None:
        """The second extractor with its reference, for confirmations only."""
        if (extractor := self.second_extractor) is None:
            return None
        return Auditor(
            extractor,
            load_or_compute_reference(self.reference_source, extractor, self.reference_dir),
        )

    def measure(
        self,
        net: Backbone,
        method: Method,
        *,
        seed: int,
        num_samples: int,
        auditor: Auditor | None = None,
        solver: Solver | None = None,
        observe: Callable[[NetworkCall], None] | None = None,
    ) -> Quality:
        """Quality of a network with a schedule or another method, by the study's protocol.

        Args:
            net: The network, in eval mode.
            method: How it is called.
            seed: Evaluation seed.
            num_samples: Number of images.
            auditor: Second extractor; None leaves it out.
            solver: Another one than the study's.
            observe: Gets the method's run of every batch.
        """
        evaluation, sampling = self.settings.evaluation, self.settings.solver
        return measure_quality(
            net,
            method,
            solver or self.solver,
            seed=seed,
            num_samples=num_samples,
            cfg_scale=sampling.cfg_scale,
            cfg_channels=sampling.cfg_channels,
            decode=self.source.decode,
            batch_size=evaluation.batch_size,
            extractor=self.extractor,
            reference=self.reference,
            auditor=auditor,
            neighbours=self.neighbours,
            observe=observe,
        )

    def measure_latency(self, net: Backbone, schedule: ExitSchedule) -> float:
        """Milliseconds per batch of a schedule, by the study's protocol."""
        measured = measure_schedules(self.settings, net, self.solver, {"trial": schedule})
        return measured["trial"].median_ms

    def protocol(self, *, seed: int, num_samples: int) -> str:
        """Digest of all that must agree for two values of FID to compare."""
        return protocol_digest(
            extractor_sha256=self.extractor.sha256,
            reference_digest=self.reference.digest,
            num_samples=num_samples,
            solver=self.settings.solver,
            diffusion=self.settings.diffusion,
            seed=seed,
        )


def device_of(settings: StudySettings) -> torch.device:
    """Where trials run: on CUDA when they are given a GPU, else on the CPU."""
    return torch.device("cuda" if settings.resources.gpus_per_trial else "cpu")


@lru_cache(maxsize=1)  # a worker process serves one study; its arguments are plain text
def open_workbench(settings_text: str, reference_dir: str) -> Workbench:
    """The workbench of a worker; see :func:`build_workbench`.

    Args:
        settings_text: The resolved search space.
        reference_dir: Where the reference statistics are cached.
    """
    return build_workbench(settings_from_text(settings_text), Path(reference_dir))


def build_workbench(settings: StudySettings, reference_dir: Path) -> Workbench:
    """Load everything that the jobs of a study share.

    Args:
        settings: The study.
        reference_dir: Where the reference statistics are cached.

    Raises:
        ConfigError: If weights, data or the extractor cannot be loaded.
    """
    device = device_of(settings)
    torch.set_num_threads(settings.resources.cpus_per_trial)
    pretrained: Any = load_backbone_from(settings.backbone, device)
    check_claims(pretrained, settings.diffusion)
    source = load_source(settings.data, pretrained.in_shape, device)
    reference_source = load_reference_source(settings.data, source, pretrained.in_shape)
    process = build_process(settings.diffusion)
    extractor = build_extractor(
        settings.evaluation.features, settings.evaluation.features_path, device
    )
    return Workbench(
        settings=settings,
        device=device,
        pretrained=pretrained,
        source=source,
        reference_source=reference_source,
        process=process,
        solver=build_solver(
            settings.solver, process, learned_variance=learns_variance(pretrained)
        ),
        extractor=extractor,
        reference_dir=reference_dir,
    )

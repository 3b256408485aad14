"""What a process needs to fine-tune and measure: built once, used by every job."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from schedsearch.backbones.weights.checkpoint import fingerprint, load_backbone_from, load_weights
from schedsearch.backbones.guidance import learns_variance
from schedsearch.config import settings_from_text
from schedsearch.data.loading import load_source
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.evaluation.control import Control, load_control
from schedsearch.evaluation.features import build_extractor
from schedsearch.evaluation.quality import Auditor, Quality, measure_quality, protocol_digest
from schedsearch.evaluation.reference import load_or_compute_reference
from schedsearch.exceptions import ConfigError
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.runs.profile_files import exits_of

if TYPE_CHECKING:
    from torch import nn

    from schedsearch.data.sources import ImageSource
    from schedsearch.evaluation.features import FeatureExtractor
    from schedsearch.evaluation.reference import Reference
    from schedsearch.protocols import Backbone, NoiseProcess, Solver
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings import StudySettings


@dataclass(frozen=True)
class Workbench:
    """Pretrained network, data, solver and measuring tools of one study."""

    settings: StudySettings
    device: torch.device
    pretrained: nn.Module
    source: ImageSource
    process: NoiseProcess
    solver: Solver
    extractor: FeatureExtractor
    reference_dir: Path

    @cached_property
    def reference(self) -> Reference:
        """Statistics of the real images; computed at first use, since that may take long."""
        return load_or_compute_reference(self.source, self.extractor, self.reference_dir)

    @cached_property
    def visits(self) -> tuple[int, ...]:
        """Network calls of the solver per interval, data -> noise."""
        num_intervals = self.settings.space.num_intervals
        probe = ExitSchedule(tuple(range(num_intervals)))
        counts = Counter(probe.visited(self.solver.times))
        return tuple(counts[interval] for interval in range(num_intervals))

    @property
    def backbone(self) -> Backbone:
        """The pretrained network as the protocol sees it; not to be trained."""
        return cast("Backbone", self.pretrained)

    def fresh_backbone(self) -> Backbone:
        """A copy of the pretrained network, for a fine-tune of its own."""
        return cast("Backbone", copy.deepcopy(self.pretrained))

    @cached_property
    def auditor(self) -> Auditor | None:
        """The second extractor with its reference; loaded at first use, for confirmations only.

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
        return Auditor(
            extractor, load_or_compute_reference(self.source, extractor, self.reference_dir)
        )

    def control_file(self, seed: int) -> Path:
        """Where the control images' statistics of one seed belong.

        Named by what they depend on, so that nothing else is ever taken for them.
        """
        protocol = self.protocol(seed=seed, num_samples=self.settings.evaluation.num_samples)
        return self.reference_dir / f"control-{protocol}-{self._weights}.safetensors"

    @cached_property
    def _weights(self) -> str:
        """Identity of the pretrained weights, 16 hex digits."""
        return fingerprint(self.pretrained).removeprefix("sha256:")[:16]

    @cached_property
    def controls(self) -> dict[int, Control]:
        """What corrects the FIDs of trials, by their evaluation seed; empty where they are plain.

        Raises:
            ConfigError: If the control images are not there.
        """
        evaluation = self.settings.evaluation
        files = {seed: self.control_file(seed) for seed in evaluation.control_seeds_used}
        if not files:
            return {}
        try:
            return {
                own: load_control(files[own], [files[seed] for seed in files if seed != own])
                for own in evaluation.trial_seeds_used
            }
        except OSError as error:
            raise ConfigError(
                f"Trials are corrected by control images, but these cannot be read: {error}. "
                f"Delete {self.reference_dir}/control-*; the same command makes them again."
            ) from error

    def starting_backbone(self, folder: RunFolder) -> Backbone:
        """What every trial of a run starts from: pretrained or shared weights.

        Raises:
            CheckpointError: If the shared weights are gone.
        """
        net = self.fresh_backbone()
        if (shared := self.shared_weights(folder)) is not None:
            load_weights(cast("nn.Module", net), shared)
        return net

    def shared_weights(self, folder: RunFolder) -> Path | None:
        """File of the weights that every trial of a run starts from; None for the pretrained."""
        profile = self.settings.profile
        if profile is None or profile.start == "pretrained":
            return None
        return folder.shared_weights(exits_of(self.settings))

    def measure(
        self,
        net: Backbone,
        schedule: ExitSchedule,
        *,
        seed: int,
        num_samples: int,
        auditor: Auditor | None = None,
        control: Control | None = None,
    ) -> Quality:
        """Quality of a network with a schedule, by the study's protocol."""
        evaluation, solver = self.settings.evaluation, self.settings.solver
        return measure_quality(
            net,
            schedule,
            self.solver,
            seed=seed,
            num_samples=num_samples,
            cfg_scale=solver.cfg_scale,
            cfg_channels=solver.cfg_channels,
            decode=self.source.decode,
            batch_size=evaluation.batch_size,
            extractor=self.extractor,
            reference=self.reference,
            auditor=auditor,
            control=control,
        )

    def protocol(
        self, *, seed: int, num_samples: int, control_samples: int = 0, num_finetunes: int = 1
    ) -> str:
        """Digest of all that must agree for two values of FID to compare."""
        return protocol_digest(
            extractor_sha256=self.extractor.sha256,
            reference_digest=self.reference.digest,
            num_samples=num_samples,
            solver=self.settings.solver,
            diffusion=self.settings.diffusion,
            seed=seed,
            control_samples=control_samples,
            num_finetunes=num_finetunes,
        )


def device_of(settings: StudySettings) -> torch.device:
    """Where trials run: on CUDA when they are given a GPU, else on the CPU."""
    return torch.device("cuda" if settings.resources.gpus_per_trial else "cpu")


@lru_cache(maxsize=1)  # a worker process serves one study; its arguments are plain text
def open_workbench(settings_text: str, reference_dir: str) -> Workbench:
    """Load everything that the jobs of a study share.

    Args:
        settings_text: The resolved search space.
        reference_dir: Where the reference statistics are cached.

    Raises:
        ConfigError: If weights, data or the extractor cannot be loaded.
    """
    settings = settings_from_text(settings_text)
    device = device_of(settings)
    torch.set_num_threads(settings.resources.cpus_per_trial)
    pretrained: Any = load_backbone_from(settings.backbone, device)
    source = load_source(settings.data, pretrained.in_shape, device)
    process = build_process(settings.diffusion)
    extractor = build_extractor(
        settings.evaluation.features, settings.evaluation.features_path, device
    )
    return Workbench(
        settings=settings,
        device=device,
        pretrained=pretrained,
        source=source,
        process=process,
        solver=build_solver(
            settings.solver, process, learned_variance=learns_variance(pretrained)
        ),
        extractor=extractor,
        reference_dir=Path(reference_dir),
    )

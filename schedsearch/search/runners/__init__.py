"""Builds the runner that a search space asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.config.paths import named_files
from schedsearch.exceptions import ConfigError
from schedsearch.search.runners.ray_environment import forget_other_clusters

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.runners.contracts import Runner
    from schedsearch.settings import StudySettings


def build_runner(settings: StudySettings, folder: RunFolder, address: str | None) -> Runner:
    """Workers by ``resources.backend``, checked; they start when the runner is entered.

    Args:
        settings: The search space.
        folder: The run folder.
        address: A Ray cluster to join; None for this machine.

    Raises:
        ConfigError: If Ray is missing or cannot run here, or an address was given without it.
    """
    timeout = settings.search.trial_timeout
    if settings.resources.backend == "local":
        if address is not None:
            raise ConfigError("--address needs resources.backend: ray, but it is local.")
        import torch

        from schedsearch.search.runners.local import LocalRunner

        return LocalRunner(
            settings.resources,
            num_gpus=torch.cuda.device_count(),
            timeout=timeout,
            stop_file=folder.stop_file,
        )
    if address is None:
        forget_other_clusters()  # before Ray is imported
    try:
        from schedsearch.search.runners.ray_tune import RayRunner
    except ImportError as error:
        raise ConfigError(
            f"resources.backend is ray, but Ray cannot be imported: {error}. Install ray[tune], "
            "or set resources.backend to local."
        ) from error
    runner = RayRunner(
        settings.resources,
        folder=folder.ray,
        log_file=folder.log_file,
        address=address,
        shared=[str(folder.lock_file), *named_files(settings)],
        timeout=timeout,
        stop_file=folder.stop_file,
    )
    runner.check()
    return runner

"""Trainers that fail on purpose: what a run must survive."""

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

from schedsearch.files.atomic import replacing
from schedsearch.protocols import (
    Backbone,
    ExitRule,
    NoiseProcess,
    Progress,
    TrainingData,
)
from schedsearch.settings import RecipeSettings
from trainers.ase import AseTrainer


class Faulty(AseTrainer):
    """The real fine-tune, with the fault that ``recipe.extra`` names for a schedule.

    ``extra.faults`` maps ``depth_9``, the deepest depth of a schedule, to one of the methods
    below; ``extra.traces`` is a folder that remembers across processes.
    """

    def finetune(
        self,
        backbone: Backbone,
        exits: ExitRule,
        data: TrainingData,
        process: NoiseProcess,
        recipe: RecipeSettings,
        progress: Progress,
        seed: int,
    ) -> Backbone:
        depths: tuple[int, ...] = exits.schedule.depths  # type: ignore[attr-defined]
        self.depth = depths[0]
        self.traces = Path(recipe.extra["traces"])
        with (self.traces / "trained.txt").open("a") as handle:
            handle.write(" ".join(map(str, depths)) + "\n")
        faults = recipe.extra["faults"]
        fault = faults.get(f"depth_{self.depth}", faults.get("depth_0"))
        net: Any = backbone
        if fault is not None:
            progress = getattr(self, fault)(net, progress) or progress
        net = super().finetune(net, exits, data, process, recipe, progress, seed)
        if fault == "nan_model":
            with torch.no_grad():
                next(net.parameters()).fill_(torch.nan)
        return net  # type: ignore[no-any-return]

    def _first_time(self) -> bool:
        try:
            (self.traces / f"depth_{self.depth}.fault").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def raises(self, net: Any, progress: Progress) -> None:
        raise RuntimeError("the trainer\nbroke")

    def raises_once(self, net: Any, progress: Progress) -> None:
        if self._first_time():
            raise RuntimeError("the trainer\nbroke")

    def out_of_memory_once(self, net: Any, progress: Progress) -> None:
        if self._first_time():
            raise MemoryError("no room")

    def nan_loss(self, net: Any, progress: Progress) -> None:
        with torch.no_grad():
            next(net.parameters()).fill_(torch.nan)

    def nan_model(self, net: Any, progress: Progress) -> None:
        """Sets the weights after the fine-tune, see above."""

    def disk_full(self, net: Any, progress: Progress) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "ema.safetensors")

    def disk_full_once(self, net: Any, progress: Progress) -> None:
        if self._first_time():
            self.disk_full(net, progress)

    def killed(self, net: Any, progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def killed_once_after_step_1(self, net: Any, progress: Progress) -> Progress | None:
        return _KilledAfter(progress, 1) if self._first_time() else None

    def stopped_after_step_1(self, net: Any, progress: Progress) -> Progress:
        return _StoppedAfter(progress, 1)

    def hangs(self, net: Any, progress: Progress) -> None:
        time.sleep(600)

    def waits_for_go(self, net: Any, progress: Progress) -> None:
        """Waits until a test makes the file ``go_8`` among the traces, for depth 8."""
        while not (self.traces / f"go_{self.depth}").exists():
            time.sleep(0.1)

    def takes_half_a_second(self, net: Any, progress: Progress) -> None:
        time.sleep(0.5)


class _After:
    """Does something when the state of a step was saved."""

    def __init__(self, progress: Progress, step: int) -> None:
        self._progress = progress
        self._step = step

    def save(self, step: int, state: Any) -> None:
        self._progress.save(step, state)
        if step == self._step:
            self.act()

    def act(self) -> None:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._progress, name)


class _KilledAfter(_After):
    """Kills its process while it writes a file."""

    def act(self) -> None:
        with replacing(self._progress.folder / "half.txt") as half:  # type: ignore[attr-defined]
            half.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)


class _StoppedAfter(_After):
    """Stops as Ctrl-C does."""

    def act(self) -> None:
        raise KeyboardInterrupt

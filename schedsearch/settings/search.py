"""Sections ``profile``, ``search`` and ``resources``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from schedsearch.files.problems import Mistake, shown
from schedsearch.files.validation import rules
from schedsearch.settings.common import Count, Positive, Seed


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSettings:
    """The error table: loss per interval and exit depth, measured before the first trial."""

    num_images: Count = 512
    """Images per interval and depth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """Limits of a run besides ``search.n_trials``.

    May change between two starts. No trial starts once a limit is reached. Trials that run may
    overrun it by a tenth (30 seconds at least); then they are stopped and resume later. Final
    latencies and the confirmation run in any case; ``--dry-run`` says how long they take.
    """

    wall_clock: Positive | None = None
    """Seconds of all starts together, not counting the time while the run was stopped."""
    device_hours: Positive | None = None
    """Hours that workers were busy; one worker for one hour is one device-hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How long and how to search."""

    n_trials: Count
    """Different schedules with a complete result, presets and full depth included."""
    seed: Seed = 0
    """Seed of the proposals and of every fine-tune."""
    sampler: Literal["additive", "stratified", "uniform", "tpe", "nsga2", "gp"] = "additive"
    """What proposes schedules: our surrogate, draws per latency stratum, uniform draws, or one of
    Optuna's samplers."""
    dp_seeds: Annotated[int, Field(ge=0)] = 4
    """Optima of the error table that are measured after the warm starts, spread along its front;
    0 where ``profile`` is null."""
    budget: BudgetSettings = BudgetSettings()
    """Time limits."""
    storage: str | None = None
    """Any Optuna storage URL; null keeps ``study.db`` in the run folder."""
    max_retries: Annotated[int, Field(ge=0)] = 2
    """New attempts for a schedule whose worker died or ran out of memory."""
    trial_timeout: Positive | None = None
    """Seconds after which a trial is stopped and counts as failed; null waits."""

    @rules
    def _rules(self) -> Iterator[Mistake]:
        url = self.storage
        if url is not None and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://.+", url) is None:
            got, like = f", got {shown(url)}", f"sqlite:///{url}"
            if "@" in url:  # it may hold a password
                got, like = "", "KIND://USER:PASSWORD@HOST/NAME"
            reason = f"must be an Optuna storage URL{got}"
            remedy = f"write {like}, or remove the key for study.db in the run folder"
            yield "storage", reason, remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSettings:
    """Where trials run; may change between two starts of one run."""

    backend: Literal["ray", "local"] = "ray"
    """Ray Tune, or plain processes on this machine."""
    num_workers: Count = 1
    """Jobs at a time."""
    cpus_per_trial: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads of a worker; small models gain nothing from more than one."""
    gpus_per_trial: Annotated[float, Field(ge=0)] = 0.0
    """GPUs of a worker, or a fraction. From 1 on, trials measure latency themselves."""
    accelerator: str | None = None
    """Kind of GPU that trials need, by Ray's name such as A100; null takes any."""

    @rules
    def _rules(self) -> Iterator[Mistake]:
        kind = self.accelerator
        if kind is not None and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", kind) is None:
            yield "accelerator", f"{shown(kind)} names no GPU", "write Ray's name, such as A100"
        elif kind is not None and self.backend != "ray":
            yield "accelerator", f"needs the backend ray, got {self.backend}", "remove the key"
        gpus = self.gpus_per_trial
        if gpus > 1 and not float(gpus).is_integer():
            reason = f"must be a fraction below 1 or a whole number, got {gpus:g}"
            yield "gpus_per_trial", reason, "trials share one GPU or own some, as in Ray"

"""Rows of the table ``digits-286``: every schedule fine-tuned by itself, by the demo's recipe.

Ten intervals, exits after 1, 4, 7 or 10 of the 10 blocks, never deeper towards the noise: 286
schedules. All are trained with the same seed, so batches, noise and times are paired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.schedulebench.identity import identity_of
from benchmarks.schedulebench.levels import snapped
from benchmarks.schedulebench.rows import RowFolder, key_of, missing, sharded
from benchmarks.schedulebench.side_tables import Variant, make_side_tables
from schedsearch.config import dump_settings, read_settings
from schedsearch.schedules.exit_rules import ScheduleExits
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import presets, scale_schedule
from schedsearch.schedules.space import SearchSpace
from schedsearch.settings import StudySettings
from schedsearch.workers.loading import load_trainer
from schedsearch.workers.workbench import Workbench, open_workbench

LEVELS = (1, 4, 7, 10)
NUM_INTERVALS = 10
SEEDS = (0, 1, 2)
"""Evaluation seeds of the full budget."""
NUM_SAMPLES = 500
DIT_PRESETS = ("D2-DiT", "D3-DiT", "D4-DiT", "D7-DiT")
ORDER_SEED = 0
VARIANTS = (
    Variant("pretrained", 0),
    Variant("schedules", 400),
)
"""Error tables; the first is the default of the product and of the replays."""


def study(folder: Path | None = None) -> StudySettings:
    """The demo's study with the table's space and number of samples, whatever the folder."""
    overrides = [f"space.min_depth={LEVELS[0]}", f"evaluation.num_samples={NUM_SAMPLES}"]
    return read_settings("digits_dit", overrides)


def level_space(levels: tuple[int, ...] = LEVELS) -> SearchSpace:
    """The space over the numbers 1..L of the levels, which proposers see."""
    return SearchSpace(1, len(levels), NUM_INTERVALS)


def schedules_in_order() -> list[tuple[int, ...]]:
    """All 286: full depth, presets and flat ones first, the rest in random order."""
    first = [(LEVELS[-1],) * NUM_INTERVALS]
    for name in DIT_PRESETS:
        first.append(snapped(scale_schedule(presets[name], old=28, new=LEVELS[-1]), LEVELS))
    first += [(level,) * NUM_INTERVALS for level in LEVELS]
    every = [
        tuple(LEVELS[depth - 1] for depth in schedule.depths)
        for schedule in level_space().enumerate()
    ]
    order = np.random.default_rng(ORDER_SEED).permutation(len(every))
    return list(dict.fromkeys([*first, *(every[i] for i in order)]))


class Unsaved:
    """Progress of a fine-tune that starts afresh after a stop; meets ``protocols.Progress``."""

    last_loss: float | None = None

    def report(self, step: int, loss: float, **values: float) -> None:
        """Keep the loss."""
        self.last_loss = loss

    def note(self, message: str) -> None:
        """Nobody watches a row."""

    def save(self, step: int, state: Callable[[], Mapping[str, Any]]) -> None:
        """Rows are short."""

    def restore(self) -> dict[str, Any] | None:
        """Nothing was saved."""
        return None


class Stopwatch:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)


def measure_row(bench: Workbench, depths: tuple[int, ...]) -> dict[str, Any]:
    """Fine-tune for one schedule and measure it at all seeds."""
    schedule, settings = ExitSchedule(depths), bench.settings
    watch, progress = Stopwatch(), Unsaved()
    with watch("fine_tune"):
        net = load_trainer(settings.trainer).finetune(
            bench.fresh_backbone(),
            ScheduleExits(schedule),
            bench.source,
            bench.process,
            settings.recipe,
            progress,
            settings.search.seed,
        )
    qualities = []
    for seed in SEEDS:
        with watch(f"sample_{seed}"):
            qualities.append(bench.measure(net, schedule, seed=seed, num_samples=NUM_SAMPLES))
    return {
        "key": key_of(depths),
        "depths": depths,
        "fid": [quality.fid for quality in qualities],
        "kid": [quality.kid for quality in qualities],
        "class_accuracy": [quality.class_accuracy for quality in qualities],
        "sample_std": [quality.sample_std for quality in qualities],
        "final_loss": progress.last_loss,
        "seconds": watch.seconds,
    }


def protocol(bench: Workbench) -> dict[str, Any]:
    """What makes the rows comparable."""
    return {
        "table": "digits-286",
        "levels": LEVELS,
        "num_intervals": NUM_INTERVALS,
        "seeds": SEEDS,
        "num_samples": NUM_SAMPLES,
        "num_steps": bench.settings.recipe.num_steps,
        "quality": bench.protocol(seed=SEEDS[0], num_samples=NUM_SAMPLES),
        "weights": "each schedule fine-tuned by itself, one training seed",
        **identity_of(bench.settings, bench.pretrained),
    }


def make_rows(
    folder: Path, shard: int, num_shards: int, note: Callable[[str], None], limit: int | None
) -> None:
    """Measure what is missing; stop and start again at will.

    Args:
        folder: Where the rows are kept.
        shard: Number of this process.
        num_shards: Processes that share the work.
        note: Takes a line of progress.
        limit: Rows to measure now; None measures all.
    """
    rows = RowFolder.open(folder, shard, num_shards)
    bench = open_workbench(dump_settings(study()), str(folder / "reference"))
    rows.bind(protocol(bench))
    wanted = sharded(schedules_in_order(), shard, num_shards)
    for count, depths in enumerate(missing(wanted, rows.done())):
        if limit is not None and count >= limit:
            return
        row = measure_row(bench, depths)
        rows.append(**row)
        fids = " ".join(f"{fid:.3f}" for fid in row["fid"])
        note(f"{row['key']}: FID {fids}; {sum(row['seconds'].values()):.1f} s")


def sunk_cost(folder: Path) -> dict[str, Any]:
    """Nothing: every schedule and every error table pays for its own fine-tune."""
    return {}


def make_tables(folder: Path, note: Callable[[str], None]) -> None:
    """Latency, costs, and error tables: pretrained, and after shared fine-tunes of both kinds."""
    make_side_tables(
        folder,
        study(),
        VARIANTS,
        schedules_in_order(),
        fine_tunes=True,
        note=note,
    )

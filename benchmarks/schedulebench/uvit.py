"""Rows of the table ``uvit-3003``: all schedules of a small U-ViT, from shared weights.

Exits after 1..6 decoder blocks, ten intervals, never deeper towards the noise: 3,003 schedules.
No schedule is fine-tuned by itself: after pretraining, one fine-tune on random monotone schedules
gives the weights that all of them share (``uvit_weights``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from benchmarks.schedulebench.prefix_memo import PrefixMemo, noisy_end_first
from benchmarks.schedulebench.rows import RowFolder, chunks, digest, key_of
from benchmarks.schedulebench.side_tables import Variant, make_side_tables
from benchmarks.schedulebench.uvit_weights import (
    NUM_SAMPLES,
    PRETRAINING_STEPS,
    SHARED,
    SHARED_STEPS,
    SPACE,
    pretrain,
    settings_of,
    share,
    sunk_cost,
)
from schedsearch.config import dump_settings
from schedsearch.data.pixels import to_uint8
from schedsearch.evaluation.features import extract_features, iterate_batches
from schedsearch.evaluation.frechet import feature_statistics, frechet_distance
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.protocols import Backbone
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings import StudySettings
from schedsearch.workers.workbench import Workbench, open_workbench

# What the command `make` asks of a table's module.
__all__ = ["VARIANTS", "make_rows", "make_tables", "study", "sunk_cost"]

SEEDS = (0, 1, 2)
VARIANTS = (Variant("shared", 0),)
"""The error table of the shared weights."""


def study(folder: Path) -> StudySettings:
    """The study that the rows are measured with."""
    return settings_of(folder, SHARED)


def protocol(bench: Workbench, folder: Path) -> dict[str, Any]:
    """What makes the rows comparable."""
    return {
        "table": "uvit-3003",
        "levels": list(range(SPACE.min_depth, SPACE.max_depth + 1)),
        "num_intervals": SPACE.num_intervals,
        "seeds": SEEDS,
        "num_samples": NUM_SAMPLES,
        "quality": bench.protocol(seed=SEEDS[0], num_samples=NUM_SAMPLES),
        "weights": (
            "shared: one fine-tune on random monotone schedules serves all, none has its own"
        ),
        "pretraining_steps": PRETRAINING_STEPS,
        "shared_steps": SHARED_STEPS,
        "weights_sha256": digest(folder / SHARED),
    }


def schedules_in_order() -> list[tuple[int, ...]]:
    """All 3,003, noisy ends first."""
    return noisy_end_first(schedule.depths for schedule in SPACE.enumerate())


def make_rows(
    folder: Path, shard: int, num_shards: int, note: Callable[[str], None], limit: int | None
) -> None:
    """Make the weights and measure what is missing; stop and start again at will.

    Only one process may run until the shared weights are there.

    Args:
        folder: Where weights and rows are kept.
        shard: Number of this process.
        num_shards: Processes that share the work.
        note: Takes a line of progress.
        limit: Rows to measure now; None measures all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pretrain(folder)
    share(folder, note)
    rows = RowFolder.open(folder, shard, num_shards)
    bench = open_workbench(dump_settings(study(folder)), str(folder / "reference"))
    rows.bind(protocol(bench, folder))
    done, count = rows.done(), 0
    for seed in SEEDS:
        evaluator = Evaluator(bench, seed)
        memo = evaluator.memo
        for depths in chunks(schedules_in_order(), shard, num_shards):
            if key_of(depths, seed) in done:
                continue
            if limit is not None and count >= limit:
                return
            started = time.perf_counter()
            fid = evaluator.fid(depths)
            seconds = round(time.perf_counter() - started, 3)
            rows.append(
                key=key_of(depths, seed), depths=depths, seed=seed, fid=fid, seconds=seconds
            )
            count += 1
            if count % 50 == 0:
                spared = 1 - memo.num_run / memo.num_asked
                note(f"seed {seed}: {key_of(depths)}; {count} rows, {spared:.0%} calls spared")
                done = rows.done()  # another process may have begun with a part of these


class Evaluator:
    """FID of the shared weights by schedule; shared work is done once.

    Equal to ``Workbench.measure``; KID and class accuracy are left out, which takes a fifth off.

    Args:
        bench: The study, from the shared weights.
        seed: Evaluation seed.
        num_samples: Images per evaluation.
    """

    def __init__(self, bench: Workbench, seed: int, num_samples: int = NUM_SAMPLES) -> None:
        net = bench.backbone
        self._bench, self._seed = bench, seed
        self._noise = starting_noise(seed, num_samples, net.in_shape)
        self._labels = balanced_labels(num_samples, net.num_classes)
        batches = -(-num_samples // bench.settings.evaluation.batch_size)
        self.memo = PrefixMemo(net, len(bench.solver.times) * batches).eval()

    def fid(self, depths: tuple[int, ...]) -> float:
        """FID of one schedule.

        Raises:
            ValueError: If it is not finite.
        """
        bench = self._bench
        size = bench.settings.evaluation.batch_size
        samples = generate(
            cast(Backbone, self.memo),
            ExitSchedule(depths),
            bench.solver,
            self._noise,
            self._labels,
            size,
            seed=self._seed,
        )
        images = to_uint8(bench.source.decode(samples))
        features = extract_features(bench.extractor, iterate_batches(images, size))
        value = frechet_distance(feature_statistics(features), bench.reference.statistics)
        if not math.isfinite(value):
            raise ValueError(f"FID of {depths} is {value}.")
        return value


def make_tables(folder: Path, note: Callable[[str], None]) -> None:
    """Latency, costs, and the error table of the shared weights."""
    make_side_tables(
        folder,
        study(folder),
        VARIANTS,
        schedules_in_order(),
        fine_tunes=False,
        note=note,
    )

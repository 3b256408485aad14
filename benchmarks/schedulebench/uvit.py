"""Rows of the table ``uvit-3003``: all schedules of a small U-ViT, from shared weights.

6 + 1 + 6 blocks of width 64 on the 8 x 8 digits, class-conditional, v-prediction. Exits after
1..6 decoder blocks, ten intervals, never deeper towards the noise: 3,003 schedules. No schedule
is fine-tuned by itself: after pretraining, one fine-tune on random monotone schedules gives the
weights that all of them share.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from torch import nn

from benchmarks.schedulebench.prefix_memo import PrefixMemo, noisy_end_first
from benchmarks.schedulebench.rows import RowFolder, chunks, digest, key_of
from benchmarks.schedulebench.side_tables import Variant, make_side_tables
from schedsearch.backbones.checkpoint import save_weights
from schedsearch.config import dump_settings, read_settings
from schedsearch.config.writing import dump_yaml
from schedsearch.data.pixels import to_uint8
from schedsearch.evaluation.features import extract_features, iterate_batches
from schedsearch.evaluation.frechet import feature_statistics, frechet_distance
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.exceptions import SchedSearchError
from schedsearch.exit_rules import RandomScheduleExits
from schedsearch.protocols import Backbone
from schedsearch.schedule import ExitSchedule
from schedsearch.search.loading import load_trainer
from schedsearch.search.progress import FileProgress
from schedsearch.search.workbench import Workbench, open_workbench
from schedsearch.settings import StudySettings
from schedsearch.space import SearchSpace

SPACE = SearchSpace(1, 6, 10)
SEEDS = (0, 1, 2)
NUM_SAMPLES = 500
PRETRAINING_STEPS, PRETRAINING_LR = 8_000, 1.5e-3
SHARED_STEPS = 3_000

PRETRAINED, SHARED = "pretrained.safetensors", "shared.safetensors"


def settings_of(folder: Path, weights: str) -> StudySettings:
    """The study of the table, from the weights of one of its stages.

    Args:
        folder: Where the weights lie; the study is written there too, for people.
        weights: ``PRETRAINED`` or ``SHARED``.
    """
    text = dump_yaml(
        {
            "name": "schedulebench_uvit",
            "backbone": {
                "family": "uvit",
                "config": {
                    "img_size": 8,
                    "patch_size": 2,
                    "in_chans": 1,
                    "embed_dim": 64,
                    "depth": 12,
                    "num_heads": 4,
                    "num_classes": 10,
                },
                "checkpoint": weights,
            },
            "diffusion": {"betas": "linear", "prediction": "v"},
            "data": {"source": "digits"},
            "space": {"num_intervals": 10, "min_depth": 1, "max_depth": 6},
            "recipe": {
                "num_steps": SHARED_STEPS,
                "batch_size": 64,
                "lr": 1.0e-3,
                "lr_schedule": "cosine",
                "ema_decay": 0.995,
                "lambda_weighting": {"kind": "none"},
                "label_dropout": 0.0,
            },
            "solver": {"name": "dpm_solver", "num_steps": 20},
            "evaluation": {
                "features": "digits",
                "num_samples": NUM_SAMPLES,
                "batch_size": 100,
                "latency_batch": 32,
            },
            "search": {"n_trials": 60},
        }
    )
    path = folder / f"space-{Path(weights).stem}.yaml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path)


def study(folder: Path) -> StudySettings:
    """The study that the rows are measured with."""
    return settings_of(folder, SHARED)


def pretrain(folder: Path) -> None:
    """Train the network at full depth, unless its weights are there."""
    from trainers.pretrain_uvit import main as pretrain_uvit

    if (folder / PRETRAINED).is_file():
        return
    flags = (
        "--data digits --embed-dim 64 --depth 12 --num-heads 4 --patch-size 2 --prediction v "
        f"--label-dropout 0 --steps {PRETRAINING_STEPS} --lr {PRETRAINING_LR}"
    )
    if code := pretrain_uvit([*flags.split(), "--output", str(folder / PRETRAINED)]):
        raise SchedSearchError(f"The pretraining ended with {code}; its messages say why.")


def share(folder: Path, note: Callable[[str], None]) -> None:
    """Fine-tune once on random monotone schedules, unless those weights are there."""
    if (folder / SHARED).is_file():
        return
    bench = open_workbench(
        dump_settings(settings_of(folder, PRETRAINED)), str(folder / "reference")
    )
    recipe = bench.settings.recipe
    progress = FileProgress(folder, save_every=recipe.save_every)
    started = time.perf_counter()
    net = load_trainer(bench.settings.trainer).finetune(
        bench.fresh_backbone(),
        RandomScheduleExits(SPACE),
        bench.source,
        bench.process,
        recipe,
        progress,
        bench.settings.search.seed,
    )
    seconds = time.perf_counter() - started
    note(f"shared fine-tune: {seconds:.0f} s in this process, loss {progress.last_loss}")
    save_weights(
        cast(nn.Module, net),
        folder / SHARED,
        {"exits": "random monotone schedules", "seconds": f"{seconds:.1f}"},
    )
    progress.done()


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
    rows = RowFolder(folder, shard, num_shards)
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
    """FID of the shared weights by schedule, with what all schedules have in common done once.

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
        value = frechet_distance(feature_statistics(features), bench.reference.statistics).value
        if not math.isfinite(value):
            raise ValueError(f"FID of {depths} is {value}.")
        return value


def make_tables(folder: Path, note: Callable[[str], None]) -> None:
    """Latency, costs, and error tables: of the shared weights, and after uniform exits."""
    make_side_tables(
        folder,
        study(folder),
        [Variant("shared", "schedules", 0), Variant("uniform", "uniform", 400)],
        schedules_in_order(),
        fine_tunes=False,
        note=note,
    )

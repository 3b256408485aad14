"""How surely does a proposer beat the presets? Replays on worlds drawn from measured runs.

    python -m benchmarks.drawn_worlds RUN [RUN ...] --trials 16 --worlds 80

A run measures its space once, so its verdicts on a proposer are one throw of the dice. Here a
Gaussian process is fitted to the log FIDs of all schedules that the runs measured (linear and
Matern-5/2 over the exit depths, one length scale per interval, by maximum likelihood), and every
world is a draw from its posterior: as certain as the measurements where there are some, and as
uncertain as they leave it elsewhere. A search in such a world sees FIDs with the fitted noise,
starts from the runs' presets, and is judged by the noiseless FID of the schedule that it would
put against each preset: its best by what it saw, among those with fewer blocks.

The runs must share one protocol. The model is another than the surrogate of the proposer.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

from benchmarks.result_tables import Table
from benchmarks.retraining import exit_code_of
from benchmarks.schedulebench.replay import replay
from schedsearch.exceptions import ConfigError
from schedsearch.planning.error_table import ErrorTable
from schedsearch.proposers.registry import NAMES, build_sampler
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.profile_files import load_error_table
from schedsearch.runs.results import RunResults
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL
from schedsearch.schedules.space import SearchSpace

Floats = NDArray[np.float64]

MARGIN = 0.01
"""FID by which a schedule must differ from a preset to count as better or worse."""

_JITTER = 1e-8


@dataclass(frozen=True)
class Knowledge:
    """What the runs measured, and the Gaussian process behind all worlds."""

    space: SearchSpace
    weights: tuple[int, ...]
    presets: dict[str, ExitSchedule]
    error_table: ErrorTable | None
    depths: Floats
    """Measured schedules, (N, num_intervals)."""
    values: Floats
    """Their log FIDs, standardised, (N,)."""
    mean: float
    scale: float
    kernel: ConstantKernel
    """Without the noise."""
    noise: float
    """Variance of a standardised log FID."""

    @classmethod
    def fit(cls, runs: Sequence[str]) -> Knowledge:
        """Read runs and fit.

        Raises:
            ConfigError: If their protocols or spaces differ, or there is no preset.
        """
        folders = [RunFolder.existing(run) for run in runs]
        results = [RunResults.load(folder) for folder in folders]
        records = [r for result in results for r in result.records if r.evaluation is not None]
        if len({r.evaluation.protocol for r in records}) > 1:
            raise ConfigError("Runs must share one protocol; give those of one space file.")
        if any(r.settings.space != results[0].settings.space for r in results):
            raise ConfigError("Runs must share one space of schedules.")
        fids = {tuple(r.depths): r.evaluation.fid for r in records}
        labels = {r.label: ExitSchedule(tuple(r.depths)) for r in records if r.label}
        presets = {FULL: labels.pop(FULL)} | dict(sorted(labels.items()))
        if not labels:
            raise ConfigError("A run without presets has nothing to beat; name warm_start.")
        depths = np.array(list(fids), dtype=float)
        logs = np.log(list(fids.values()))
        kernel = (
            ConstantKernel(0.01) * DotProduct(1.0)
            + ConstantKernel(1.0) * Matern([6.0] * depths.shape[1], (1, 200), nu=2.5)
            + WhiteKernel(1e-3, (1e-5, 1e-1))
        )
        model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is fine
            model.fit(depths, logs)
        report = results[0].latency
        assert report is not None
        settings = results[0].settings
        return cls(
            space=settings.space.build(),
            weights=report.visits,
            presets=presets,
            error_table=load_error_table(folders[0], settings),
            depths=depths,
            values=(logs - logs.mean()) / logs.std(),
            mean=float(logs.mean()),
            scale=float(logs.std()),
            kernel=model.kernel_.k1,
            noise=float(model.kernel_.k2.noise_level),
        )


@dataclass
class World:
    """One draw; its schedules are drawn when they are asked for, given all those before."""

    known: Knowledge
    seed: int
    _rng: np.random.Generator = field(init=False)
    _drawn: dict[ExitSchedule, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([self.seed, 0])

    @property
    def space(self) -> SearchSpace:
        """Of the runs."""
        return self.known.space

    def _value(self, schedule: ExitSchedule) -> float:
        if schedule not in self._drawn:
            known, own = self.known, [s.depths for s in self._drawn]
            places = np.vstack([known.depths, *own]) if own else known.depths
            values = np.concatenate([known.values, list(self._drawn.values())])
            noise = np.full(len(places), _JITTER)
            noise[: len(known.depths)] += known.noise
            here = np.array([schedule.depths], dtype=float)
            cross = known.kernel(here, places)[0]
            cov = known.kernel(places) + np.diag(noise)
            mean, weights = np.linalg.solve(cov, np.column_stack([values, cross])).T @ cross
            variance = max(float(known.kernel(here)[0, 0] - weights), 0.0)
            self._drawn[schedule] = float(mean + math.sqrt(variance) * self._rng.normal())
        return self._drawn[schedule]

    def truth(self, schedule: ExitSchedule) -> tuple[float, float]:
        """(FID without noise, blocks of a solver run)."""
        log_fid = self.known.mean + self.known.scale * self._value(schedule)
        return math.exp(log_fid), float(schedule.num_blocks(self.known.weights))

    def observe(self, schedule: ExitSchedule, seed: int) -> tuple[float, float]:
        """The same with the noise of a measurement; the same at every call."""
        fid, blocks = self.truth(schedule)
        error = np.random.default_rng([seed, *schedule.depths]).normal()
        return fid * math.exp(self.known.scale * math.sqrt(self.known.noise) * error), blocks


def gaps_to_presets(world: World, sampler: str, trials: int) -> list[float]:
    """FID of the best searched schedule less the preset's, per preset; inf without one."""
    known, seed = world.known, world.seed
    proposer = build_sampler(
        sampler, known.space, seed, known.weights, error_table=known.error_table
    )
    labelled = list(known.presets.items())
    evaluated = replay(world, proposer, seed, trials, labelled=labelled)  # type: ignore[arg-type]
    searched = [s for s in evaluated if s not in known.presets.values()]
    gaps = []
    for preset in list(known.presets.values())[1:]:
        limit = preset.num_blocks(known.weights)
        rivals = [s for s in searched if s.num_blocks(known.weights) < limit]
        best = min(rivals, key=lambda s: world.observe(s, seed)[0], default=None)
        gaps.append(math.inf if best is None else world.truth(best)[0] - world.truth(preset)[0])
    return gaps


def main(argv: Sequence[str] | None = None) -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder, or name below runs/")
    parser.add_argument("--trials", type=int, default=16, help="presets included")
    parser.add_argument("--worlds", type=int, default=80)
    parser.add_argument("--proposers", nargs="+", choices=NAMES, default=["additive"])
    args = parser.parse_args(argv)
    known = Knowledge.fit(args.runs)
    names = list(known.presets)[1:]
    table = Table(
        title="FID of the best searched schedule less the preset's",
        note=(
            f"{args.worlds} worlds drawn from {len(known.depths)} measured schedules (noise of a "
            f"log FID {known.scale * math.sqrt(known.noise):.3f}), {args.trials} trials each, "
            f"presets included; better and worse: by more than {MARGIN}."
        ),
        columns=dict.fromkeys(["proposer", *names, "any worse", "mean, 95 %"], ""),
        rows=[row_of(known, proposer, args.trials, args.worlds) for proposer in args.proposers],
    )
    print(table.to_markdown())


def row_of(known: Knowledge, proposer: str, trials: int, worlds: int) -> dict[str, str]:
    """What a proposer reaches against each preset, over all worlds."""
    gaps = np.array([gaps_to_presets(World(known, w), proposer, trials) for w in range(worlds)])
    worse, better = gaps > MARGIN, gaps < -MARGIN
    finite = np.where(np.isfinite(gaps), gaps, np.nan)
    means = np.nanmean(finite, axis=1)
    half = 1.96 * means.std(ddof=1) / math.sqrt(worlds)
    row = {"proposer": proposer}
    for i, name in enumerate(list(known.presets)[1:]):
        shares = f"{better[:, i].mean():.0%} better, {worse[:, i].mean():.0%} worse"
        row[name] = f"{np.nanmean(finite[:, i]):+.3f} ({shares})"
    row["any worse"] = f"{worse.any(axis=1).mean():.0%}"
    row["mean, 95 %"] = f"{means.mean():+.4f} ± {half:.4f}"
    return row


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))

"""The rows of each analysis, with the paper's figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from benchmarks.paper_analyses.cases import (
    ASE_LAMBDA,
    NO_LAMBDA,
    Case,
    Depths,
    Measurement,
    Tuning,
    solver,
)
from schedsearch.schedules.hand_made import preset_for
from schedsearch.settings import LambdaSettings

DEPTH = 10
"""Blocks of the digits model."""
FULL: Depths = (DEPTH,) * 10
D3: Depths = preset_for("D3-DiT", DEPTH).depths
D7: Depths = preset_for("D7-DiT", DEPTH).depths
SCHEDULES = {"D3": D3, "D7": D7}

Variant = tuple[str, bool, dict[str, object]]
"""A row, whether it is the baseline, and its changes to the recipe."""

STEPS, LONG_STEPS = 100, 400
"""Steps of a fine-tune: as in ``search_spaces/digits_dit.yaml``, and four times as many."""

MIXED_INTERVALS = (1, 3, 5, 7, 9)
"""Intervals k of Mixed-k (ASE, Table 4), counted from the data, 0 to 9."""


def scaled(num_steps: int, scale: float) -> int:
    """A shorter or longer fine-tune, of at least one step."""
    return max(1, round(num_steps * scale))


# ---- ASE, Table 3 -----------------------------------------------------------------------------


def shapes_of(depths: Depths) -> dict[str, Depths]:
    """Five shapes of equal budget.

    ASE draws its four (Fig. 6) but gives no depths, so these are ours. All but the flat one
    reorder the depths of the first, the hand-made schedule.
    """
    rising = sorted(depths)
    hump = (*rising[::2], *reversed(rising[1::2]))
    falling = rising[::-1]
    valley = (*falling[::2], *reversed(falling[1::2]))
    base, extra = divmod(sum(depths), len(depths))
    flat = tuple(base + (interval < extra) for interval in range(len(depths)))
    return {
        "monotone": depths,
        "flat": flat,
        "hump": hump,
        "valley": valley,
        "reversed": depths[::-1],
    }


def shapes(scale: float = 1.0) -> list[Case]:
    """Each shape fine-tuned by itself, measured with 20 and 50 solver steps."""
    steps = scaled(STEPS, scale)
    solvers = [solver("dpm_solver", num) for num in (20, 50)]
    return [
        Case(
            tuning=Tuning(kind="schedule", depths=depths, num_steps=steps),
            measurements=[
                Measurement(
                    group=f"{name}, {100 * sum(budget) // (DEPTH * 10)} % of the blocks, "
                    f"DPM-{used.num_steps}",
                    row=shape,
                    depths=depths,
                    solver=used,
                    is_baseline=shape == "monotone",
                )
                for used in solvers
            ],
        )
        for name, budget in SCHEDULES.items()
        for shape, depths in shapes_of(budget).items()
    ]


# ---- ASE, Table 4 -----------------------------------------------------------------------------


def baselines(scale: float = 1.0) -> list[Case]:
    """Negative transfer: exits against further training."""
    steps = scaled(STEPS, scale)

    def measured(row: str, depths: Depths = FULL, paper: str = "", **more: object) -> Measurement:
        fields = {"group": "DPM-20", "row": row, "depths": depths, "paper": paper, **more}
        return Measurement(**fields)  # type: ignore[arg-type]

    def case(measurements: Sequence[Measurement], **tuning: object) -> Case:
        return Case(tuning=Tuning(**tuning), measurements=measurements)  # type: ignore[arg-type]

    mixed_paper = ("2.938 / 3.054", "2.654 / 3.232", "3.287 / 3.187", "2.292 / 2.969")
    papers = dict(zip(MIXED_INTERVALS, (*mixed_paper, "2.933 / 3.027"), strict=True))
    ase = [
        measured("ASE: D3, tuned", D3),
        *(
            measured(
                f"Mixed-{k}: D3 in interval {k} only",
                tuple(D3[k] if interval == k else DEPTH for interval in range(len(D3))),
                papers[k],
                tuned_interval=k,
            )
            for k in MIXED_INTERVALS
        ),
    ]
    share = max(1, round(steps / len(FULL)))
    return [
        case(
            [measured("baseline: pretrained", paper="3.355 / 3.316", is_baseline=True)],
            kind="pretrained",
        ),
        case(
            [measured("further-trained at full depth", paper="4.262 / 4.028")],
            kind="schedule",
            depths=FULL,
            num_steps=steps,
            lambda_weighting=NO_LAMBDA,
        ),
        case(
            [measured("multi-experts, a tenth of the steps each")],
            kind="experts",
            depths=FULL,
            num_steps=share,
            lambda_weighting=NO_LAMBDA,
        ),
        case(
            [measured("multi-experts, all steps each", paper="2.987 / 2.942")],
            kind="experts",
            depths=FULL,
            num_steps=steps,
            lambda_weighting=NO_LAMBDA,
        ),
        case(ase, kind="schedule", depths=D3, num_steps=steps),
        case(
            [
                measured("uniform random exits, run as D3", D3),
                measured("uniform random exits, full depth"),
            ],
            kind="uniform exits",
            num_steps=steps,
        ),
        case(
            [
                measured("random monotone schedules, run as D3", D3),
                measured("random monotone schedules, full depth"),
            ],
            kind="random schedules",
            num_steps=steps,
        ),
    ]


# ---- ASE, Fig. 4 ------------------------------------------------------------------------------

SOLVERS: Sequence[tuple[Literal["ddim", "dpm_solver", "ddpm"], Sequence[int]]] = (
    ("ddim", (10, 20, 50)),
    ("dpm_solver", (10, 20, 50)),
    ("ddpm", (50, 100)),
)
"""Step counts that visit all ten intervals equally often, see :func:`.cases.solver`."""


def solvers(scale: float = 1.0) -> list[Case]:
    """One fine-tune per schedule, measured with every solver."""
    return [
        Case(
            tuning=Tuning(kind="schedule", depths=depths, num_steps=scaled(STEPS, scale)),
            measurements=[
                Measurement(
                    group=f"{name.upper().replace('_SOLVER', '-Solver++')}, {num} steps",
                    row=row,
                    depths=depths,
                    solver=solver(name, num),
                    is_baseline=row == "full depth",
                )
                for name, counts in SOLVERS
                for num in counts
            ],
        )
        for row, depths in {"full depth": FULL, **SCHEDULES}.items()
    ]


# ---- ASE, Sec. 3.3 ----------------------------------------------------------------------------

LAMBDAS = {
    "none": NO_LAMBDA,
    "linear to 4, until half of the steps": ASE_LAMBDA,
    "linear to 4, until the loss is flat": LambdaSettings(kind="linear", max=4.0, until="plateau"),
    "linear to 4, to the end": LambdaSettings(kind="linear", max=4.0, until=1.0),
}
EMA_DECAYS: dict[str, float] = {"raw weights": 0.0, "0.9": 0.9, "0.99": 0.99, "0.999": 0.999}


def lambdas(scale: float = 1.0) -> list[Case]:
    """Weightings of the loss, at two lengths of the fine-tune."""
    variants: list[Variant] = [
        (row, row == "none", {"lambda_weighting": weighting}) for row, weighting in LAMBDAS.items()
    ]
    return list(_variants(variants, SCHEDULES, scale))


def emas(scale: float = 1.0) -> list[Case]:
    """Decays of the EMA, at two lengths of the fine-tune."""
    variants: list[Variant] = [("auto", True, {"ema_decay": "auto"})]
    variants += [(row, False, {"ema_decay": decay}) for row, decay in EMA_DECAYS.items()]
    return list(_variants(variants, {"D7": D7}, scale))


def _variants(
    variants: Sequence[Variant], schedules: Mapping[str, Depths], scale: float
) -> Iterator[Case]:
    """Schedules with every variant of the recipe, at both lengths."""
    for name, depths in schedules.items():
        for num_steps in (STEPS, LONG_STEPS):
            steps = scaled(num_steps, scale)
            for row, is_baseline, changes in variants:
                yield Case(
                    tuning=Tuning(
                        kind="schedule",
                        depths=depths,
                        num_steps=steps,
                        **changes,  # type: ignore[arg-type]
                    ),
                    measurements=[
                        Measurement(
                            group=f"{name}, {steps} steps",
                            row=row,
                            depths=depths,
                            is_baseline=is_baseline,
                        )
                    ],
                )

"""Plans in words, and the picture with their steps."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up_methods import RATIOS, ROWS, methods_of, rival_of
from PIL import Image

from schedsearch.report.method_plot import plot_methods
from schedsearch.report.plan_lines import added_by_training, plan_lines

STEPS = ("F", "M0", "G5", "A7")
PLAN = rival_of("plan-0.6", [2.1, 2.1, 2.3, 2.2], kind="plan", steps=STEPS, share=0.6)
WITH_PLAN = {**RATIOS, "plan-0.6": 0.6}


def test_a_plan_says_how_far_it_is_from_full_depth() -> None:
    first, legend = plan_lines(methods_of([*ROWS, PLAN], WITH_PLAN))
    assert first == (
        "plan-0.6: 0.60 of full depth's time; FID +0.000 ± 0.000, no difference to full depth. "
        "Steps: F M0 G5 A7"
    )
    assert legend.startswith("Steps: F runs all blocks.")


@pytest.mark.parametrize(
    ("fids", "words"),
    [
        ([2.1, 3.1, 3.3, 3.2], "+1.000 ± 0.000, worse than full depth"),
        ([2.1, 1.1, 1.3, 1.2], "-1.000 ± 0.000, better than full depth"),
    ],
)
def test_the_verdict_is_in_plain_words(fids: list[float], words: str) -> None:
    plan = rival_of("plan-0.6", fids, kind="plan", steps=STEPS)
    assert words in plan_lines(methods_of([*ROWS, plan], WITH_PLAN))[0]


def test_the_best_number_of_steps_is_named() -> None:
    fewer = rival_of("plan-0.6-12steps", [1.5, 1.4, 1.6, 1.5], kind="plan", steps=STEPS[:1])
    other = rival_of("plan-0.3-12steps", [1.5, 1.4, 1.6, 1.5], kind="plan", steps=STEPS[:1])
    lines = plan_lines(methods_of([*ROWS, PLAN, fewer, other], WITH_PLAN))
    (choice,) = (line for line in lines if line.startswith("For "))
    assert choice == (
        "For 0.6 of full depth's time take plan-0.6-12steps: FID 1.500; plan-0.6 2.200."
    )


def test_without_plans_nothing_is_said() -> None:
    assert plan_lines(methods_of()) == []
    assert added_by_training(methods_of([*ROWS, PLAN], WITH_PLAN)) is None, "there is no trial"


def test_the_picture_is_wider_with_the_strips(tmp_path: Path) -> None:
    long = replace(PLAN, steps=("F", "R0", "G2", "M3", "X5") * 4)
    plot_methods(methods_of(), tmp_path / "plain.png")
    plot_methods(methods_of([*ROWS, long], WITH_PLAN), tmp_path / "plans.png")
    plain, plans = (Image.open(tmp_path / name) for name in ("plain.png", "plans.png"))
    assert plans.width > plain.width
    colours = {colour for _, colour in plans.convert("RGB").getcolors(10**6) or []}
    assert {(31, 119, 180), (253, 208, 162), (253, 174, 107), (253, 141, 60)} <= colours

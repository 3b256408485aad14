"""Tables and pictures of a profile, on numbers made by hand."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from driving import settings_of
from matplotlib.image import imread
from rich.console import Console, RenderableType

from schedsearch.evaluation.latency_protocol import LatencyProtocol
from schedsearch.evaluation.latency_table import LatencyTable
from schedsearch.planning.error_table import ErrorTable
from schedsearch.report.profile_plots import (
    plot_block_values,
    plot_error_table,
    plot_latency_table,
)
from schedsearch.report.profile_tables import (
    block_values,
    error_table,
    latency_table,
    latency_verdict,
    plans_table,
    shown_columns,
)
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.search.profile_space import Profile, ProfiledSchedule

PROTOCOL = LatencyProtocol(
    device="cpu (test)",
    dtype="float32",
    batch=8,
    threads=1,
    solver="ddim",
    num_steps=4,
    spacing="linspace",
    cfg_scale=1.0,
)


def latency_of(mean_residual: float = 0.02) -> LatencyTable:
    return LatencyTable(
        depth_ms={2: 2.0, 3: 3.0, 4: 4.1},
        run_ms={4: 17.0},
        a_ms=0.5,
        b_ms=2.0,
        c0_ms=1.0,
        max_residual=0.04,
        mean_residual=mean_residual,
        num_calls=4,
        repeats=3,
        protocol=PROTOCOL,
    )


def entry_of(name: str, depths: tuple[int, ...], predicted: float, measured: float):
    return ProfiledSchedule(
        name=name,
        schedule=ExitSchedule(depths),
        blocks=sum(depths),
        excess=0.0125,
        predicted_ms=predicted,
        measured_ms=measured,
        half_width_ms=0.1,
        acceleration=0.25,
    )


def profile_of(**changes) -> Profile:
    values = {
        "settings": settings_of(),
        "latency": latency_of(),
        "errors": ErrorTable(
            depths=(2, 3, 4),
            losses=((0.6, 0.4, 0.2), (0.3, 0.2, 0.2), (0.1, 0.099, 0.1)),
            standard_errors=((0.01, 0.01, 0.0), (0.01, 0.01, 0.0), (0.01, 0.01, 0.0)),
            exits="schedules",
            num_steps=7,
            num_images=9,
            seed=0,
            seconds=1.0,
        ),
        "visits": (2, 1, 0),
        "plans": (entry_of("plan 1", (4, 4, 3), 20.0, 20.4), entry_of("plan 2", (4, 2, 2), 9, 9)),
        "hand_made": (entry_of("full", (4, 4, 4), 25.0, 25.5),),
    }
    return Profile(**{**values, **changes})


def text_of(table: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    return out.getvalue()


def test_the_value_of_a_block_by_hand() -> None:
    values = block_values(profile_of())
    # 2 calls of 2 ms save 0.2 in interval 0; 1 call saves 0.1 and then nothing in interval 1.
    np.testing.assert_allclose(values[:2], [[0.05, 0.05], [0.05, 0.0]], atol=1e-12)
    assert np.isnan(values[2]).all()  # the solver never calls the network there


def test_the_error_table_shows_the_excess_in_thousandths() -> None:
    text = text_of(error_table(profile_of()))
    assert "shared weights, 7 steps, n=9" in text
    rows = [line.replace("│", " ").split() for line in text.splitlines() if "│" in line]
    assert rows[0] == ["data", "0", "2", "400", "200", "0", "0.2000"]
    assert rows[1] == ["1", "1", "100", "0", "0", "0.2000"]
    assert rows[2] == ["noise", "2", "0", "0", "-1", "0", "0.1000"]
    untuned = dataclasses.replace(profile_of().errors, num_steps=0, exits="pretrained")
    assert "pretrained weights" in text_of(error_table(profile_of(errors=untuned)))


def test_the_error_table_says_where_its_intervals_end(tmp_path: Path) -> None:
    space = {"num_intervals": 3, "edges": [0, 250, 600, 1000]}
    profile = profile_of(settings=settings_of(space=space))
    rows = [
        line.replace("│", " ").split()
        for line in text_of(error_table(profile)).splitlines()
        if "│" in line
    ]
    assert rows[0][:4] == ["data", "0", "250", "2"]
    assert rows[2][:4] == ["noise", "2", "1000", "0"]
    plot_error_table(profile, tmp_path / "table.png")
    assert imread(tmp_path / "table.png").shape[0] > 300


def test_plans_beside_full_depth_by_latency() -> None:
    text = text_of(plans_table(profile_of()))
    assert text.index("plan 2") < text.index("plan 1") < text.index("full")
    assert "12.5" in text
    assert "20.4 ± 0.1" in text
    assert "2.050" not in text_of(latency_table(latency_of()))
    assert "4.100" in text_of(latency_table(latency_of()))


@pytest.mark.parametrize(
    ("residual", "measured", "verdict"),
    [(0.02, 25.5, "Good"), (0.07, 25.5, "Rough"), (0.02, 33.0, "Rough"), (0.2, 25.5, "Not to be")],
)
def test_the_verdict_looks_at_the_fit_and_at_whole_runs(
    residual: float, measured: float, verdict: str
) -> None:
    profile = profile_of(
        latency=latency_of(residual), hand_made=(entry_of("full", (4, 4, 4), 25.0, measured),)
    )
    sentence, _ = latency_verdict(profile)
    assert verdict in sentence


def test_many_depths_are_thinned_with_both_ends() -> None:
    assert shown_columns(9) == list(range(9))
    columns = shown_columns(28)
    assert (columns[0], columns[-1], len(columns)) == (0, 27, 14)


LOSSES = ((0.6, 0.3, 0.2), *profile_of().errors.losses[1:])
OTHER_ERRORS = profile_of(errors=dataclasses.replace(profile_of().errors, losses=LOSSES))
OTHER_CALLS = profile_of(latency=dataclasses.replace(profile_of().latency, a_ms=9.0))


@pytest.mark.parametrize(
    ("plot", "other"),
    [
        (plot_latency_table, OTHER_CALLS),
        (plot_error_table, OTHER_ERRORS),
        (plot_block_values, OTHER_ERRORS),
    ],
)
def test_pictures(tmp_path: Path, plot, other: Profile) -> None:
    for name, profile in (("one", profile_of()), ("same", profile_of()), ("other", other)):
        plot(profile, tmp_path / f"{name}.png")
    one, same, changed = (imread(tmp_path / f"{name}.png") for name in ("one", "same", "other"))
    assert one[..., :3].std() > 0.05  # not blank
    assert np.array_equal(one, same)
    assert not np.array_equal(one, changed)  # it shows the numbers


@pytest.mark.parametrize("plot", [plot_error_table, plot_block_values])
@pytest.mark.parametrize("losses", [((0.2,) * 3,) * 3, ((0.3, 0.2, 0.2),) * 3])
def test_pictures_of_tables_without_a_range(tmp_path: Path, plot, losses) -> None:
    errors = dataclasses.replace(profile_of().errors, losses=losses)
    plot(profile_of(errors=errors, plans=()), tmp_path / "picture.png")
    assert list(tmp_path.iterdir()) == [tmp_path / "picture.png"]
    assert imread(tmp_path / "picture.png")[..., :3].std() > 0.02

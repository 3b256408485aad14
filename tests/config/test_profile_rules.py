from collections.abc import Callable
from pathlib import Path

import pytest

from schedsearch.config import (
    InvalidFileError,
    differing_keys,
    dump_settings,
    read_settings,
    settings_from_text,
)


def mistakes(file: Path, *options: str) -> list[str]:
    with pytest.raises(InvalidFileError) as caught:
        read_settings(file, options)
    return [str(problem) for problem in caught.value.problems]


def test_a_profile_is_the_default_and_min_depth_1_is_fine(good: Path) -> None:
    settings = read_settings(good, ["space.min_depth=1"])
    assert settings.profile is not None
    assert settings.search.dp_seeds == 4


def test_without_a_profile_there_are_no_seeds_and_the_text_comes_back(good: Path) -> None:
    settings = read_settings(good, ["profile=null"])
    assert settings.profile is None
    assert settings.search.dp_seeds == 0
    assert settings_from_text(dump_settings(settings)) == settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("profile=null", "search.dp_seeds=3"),
            "search.dp_seeds: seeds come from the error table, but profile is null; got 3",
        ),
        (("profile.num_images=0",), "profile.num_images: must be >= 1"),
        (("search.budget.wall_clock=0",), "search.budget.wall_clock: must be > 0"),
        (("search.budget.hours=1",), "unknown key"),
        (
            ("evaluation.auditor=digits",),
            "evaluation.auditor: must be independent of features, got",
        ),
        (("evaluation.auditor=digitz",), "evaluation.auditor: unknown features 'digitz'"),
        (("evaluation.auditor=lenet",), "evaluation.auditor: lenet features were trained on"),
        (("evaluation.auditor=inception",), "inception needs evaluation.auditor_path"),
        (("evaluation.auditor_path=x.pt",), "evaluation.auditor_path: there is no auditor"),
        (
            ("evaluation={auditor: inception, auditor_path: gone.pt}",),
            "evaluation.auditor_path: the file",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes(good: Path, options: tuple[str, ...], message: str) -> None:
    (problem,) = mistakes(good, *options)
    assert message in problem


def test_an_auditors_path_counts_from_the_file(edited: Callable[..., Path]) -> None:
    auditor = "evaluation: {auditor: inception, auditor_path: weights.pt}\nsearch:"
    file = edited(("search:", auditor))
    found = read_settings(file).evaluation.auditor_path
    assert found == str(file.parent / "weights.pt")


def test_the_budget_may_change_when_a_run_is_resumed(good: Path) -> None:
    before = read_settings(good)
    larger = read_settings(good, ["search.budget={wall_clock: 60, device_hours: 1}"])
    other = read_settings(good, ["profile.num_images=7", "evaluation.auditor=digits_mlp"])
    assert differing_keys(before, larger) == []
    assert set(differing_keys(before, other)) == {"profile.num_images", "evaluation.auditor"}

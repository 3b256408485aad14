"""Targets of plans, and their names."""

import pytest

from schedsearch.files.problems import Findings
from schedsearch.files.validation import validate
from schedsearch.settings.plan import PlanSettings, PlanTarget


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("0.62", PlanTarget(0.62)),
        ("b0.5", PlanTarget(0.5, "blocks")),
        ("0.62-15steps", PlanTarget(0.62, "latency", 15)),
        ("b0.45-7steps", PlanTarget(0.45, "blocks", 7)),
    ],
)
def test_a_target_is_its_name(text: str, target: PlanTarget) -> None:
    assert PlanTarget.parse(text) == target
    assert str(target) == text


@pytest.mark.parametrize("text", ["", "62", "1.5", "c0.5", "0.5-steps", "0.5 15steps"])
def test_other_texts_are_no_targets(text: str) -> None:
    with pytest.raises(ValueError, match="a target of a plan"):
        PlanTarget.parse(text)


def test_every_target_has_a_row_for_every_number_of_steps() -> None:
    settings = PlanSettings(targets=(0.6,), target_blocks=(0.5,), num_steps=(15, 10))
    assert settings.points == (
        "0.6", "b0.5", "0.6-15steps", "b0.5-15steps", "0.6-10steps", "b0.5-10steps",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"targets": [], "target_blocks": []}, "has no target"),
        ({"targets": [0.5, 0.5]}, "names a value twice"),
        ({"targets": [1.0]}, "1"),
        ({"fit_images": 2}, "8"),
        ({"max_age": 0}, "1"),
    ],
)
def test_settings_without_meaning_are_refused(given: dict[str, object], message: str) -> None:
    findings = Findings("space.yaml")
    valid, _ = validate(PlanSettings, given, ("plan",), findings)
    assert not valid
    assert message in " ".join(problem.reason for problem in findings.problems)

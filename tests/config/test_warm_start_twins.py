"""Static twins among the warm starts: each is that of a dynamic row of ``rivals``."""

import copy

import pytest
from rival_spaces import DEEDIFF, problems_of, read

from schedsearch.config import dump_settings, settings_from_text

CALM = {"kind": "similarity", "trainer": "a:B", "targets": [0.75], "thresholds": [0.99]}


def test_the_twin_of_a_dynamic_row_is_a_warm_start() -> None:
    starts = ["full", "twin:deediff-0.75", "twin:calm-t0.99", "twin:calm-t0.99"]
    settings = read({"deediff": DEEDIFF, "calm": CALM}, warm_start=starts)
    assert settings.warm_start == tuple(starts)
    assert settings_from_text(dump_settings(settings)) == settings


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("twin:deedif-0.75", "no row 'deedif-0.75' in rivals; did you mean 'twin:deediff-0.75'?"),
        ("twin:deediff", "no row 'deediff' in rivals; did you mean 'twin:deediff-0.75'?"),
        ("twin:", "no row '' in rivals; "),
        ("twin:fora-2", "the row 'fora-2' of rivals is not dynamic, so it has no static twin; "),
        ("twin:all_blocks-0.75", "exits in the encoder, so it has no static twin; "),
        ("twim:x", "unknown schedule 'twim:x'; known are full, D2-DiT"),
    ],
)
def test_a_twin_needs_a_dynamic_row(entry: str, reason: str) -> None:
    all_blocks = {**copy.deepcopy(DEEDIFF), "exits": "all"}
    fora = {"kind": "block_cache", "every": [2]}
    rivals = {"deediff": DEEDIFF, "all_blocks": all_blocks, "fora": fora}
    ((key, text),) = problems_of(rivals, warm_start=["full", entry])
    assert key == "warm_start[1]"
    assert reason in text


def test_a_twin_needs_rivals() -> None:
    ((key, text),) = problems_of(None, warm_start=["twin:deediff-0.75"])
    assert key == "warm_start[0]"
    assert "add an entry of kind uncertainty or similarity to rivals" in text


def test_the_twin_of_a_wrong_entry_is_no_second_mistake() -> None:
    wrong = {**DEEDIFF, "targets": [1.5]}
    ((key, _),) = problems_of({"deediff": wrong}, warm_start=["twin:deediff-0.75"])
    assert key == "rivals.deediff.targets[0]"

"""How much selection flatters."""

import numpy as np
import pytest

from schedsearch.statistics.winners_curse import TwiceMeasured, winners_curse


def pair(searched: float, confirmed: float, **changes: object) -> TwiceMeasured:
    return TwiceMeasured(searched, confirmed, **{"features": "digits CNN", **changes})  # type: ignore[arg-type]


def test_the_common_shift_of_the_seeds_is_no_curse() -> None:
    """All rise by 0.3; the selected by 0.1 more."""
    baselines = [pair(1.0, 1.3), pair(2.0, 2.3), pair(3.0, 3.3)]
    selected = [pair(1.0, 1.39), pair(2.0, 2.41), pair(3.0, 3.4)]
    found = winners_curse(selected, baselines)
    assert found is not None
    assert found.flattery == pytest.approx(0.1)
    assert found.shift == pytest.approx(0.4)
    assert "flatter its picks by +0.100" in found.sentence
    expected = found.expected(1.5)
    assert expected is not None
    assert expected[0] == pytest.approx(1.9)
    assert expected[1] == pytest.approx(4.302653 * 0.01 * (4 / 3) ** 0.5, rel=1e-4)


def test_a_real_selection_is_seen_and_corrected() -> None:
    """100 equal schedules, noise 0.1, a shift of 0.2: the best 10 are flattered by 0.17."""
    rng = np.random.default_rng(0)
    flattery, errors, covered, repeats = [], [], 0, 200
    for _ in range(repeats):
        searched = 1.0 + 0.1 * rng.normal(size=105)
        fresh = 1.2 + 0.02 * rng.normal(size=105)
        best = np.argsort(searched[:100])[:10]
        chosen, left = best[::2], best[1::2]  # half of the front is confirmed
        found = winners_curse(
            [pair(searched[i], fresh[i]) for i in chosen],
            [pair(searched[i], fresh[i]) for i in range(100, 105)],
        )
        assert found is not None
        flattery.append(found.flattery)
        for i in left:
            expected = found.expected(searched[i])
            assert expected is not None
            errors.append(expected[0] - fresh[i])
            covered += abs(errors[-1]) <= expected[1]
    assert np.mean(flattery) == pytest.approx(0.17, abs=0.02)
    assert abs(np.mean(errors)) < 0.02  # uncorrected: 0.37
    assert covered / len(errors) > 0.93


def test_none_seen() -> None:
    found = winners_curse([pair(1.0, 1.1), pair(1.0, 0.9)], [pair(2.0, 2.1), pair(2.0, 1.9)])
    assert found is not None
    assert "none seen" in found.sentence
    assert found.expected(1.0) is None  # two are too few to learn from


def test_too_few_and_other_protocols() -> None:
    two = [pair(1.0, 1.1), pair(1.0, 0.9)]
    assert winners_curse(two, two[:1]) is None
    assert winners_curse([], two) is None
    with pytest.raises(ValueError, match="same weights by the same extractor"):
        winners_curse(two, [pair(1.0, 1.0, features="lenet"), two[0]])
    with pytest.raises(ValueError, match="leave out schedules whose fine-tune was continued"):
        winners_curse(two, [pair(1.0, 1.0, num_steps=100), two[0]])

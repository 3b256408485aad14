"""Who is compared with a hand-made schedule."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from driving import entry_of

from schedsearch.search.front_entry import FrontEntry
from schedsearch.statistics.rivals import contenders_for, likely_contenders_for, winner_of


def rival_of(
    preset: FrontEntry, searched: Sequence[FrontEntry], runoff: Mapping[int, float] | None = None
) -> FrontEntry | None:
    return winner_of(contenders_for(preset, searched, 3), runoff or {})


def test_the_rival_is_the_best_that_is_no_slower() -> None:
    preset = entry_of(0, 5.0, 50.0, "D2-DiT")
    searched = [entry_of(1, 3.0, 51.0), entry_of(2, 4.0, 50.0), entry_of(3, 4.5, 20.0)]
    assert rival_of(preset, searched) == searched[1]
    assert rival_of(preset, searched[:1]) is None
    assert rival_of(preset, []) is None


def test_the_runoff_decides_among_the_best_few() -> None:
    preset = entry_of(0, 5.0, 50.0, "D2-DiT")
    searched = [entry_of(number, 3.0 + number / 10, 40.0) for number in (1, 2, 3, 4)]
    assert contenders_for(preset, searched, 3) == searched[:3]
    assert contenders_for(preset, searched, 9) == searched
    assert rival_of(preset, searched, {1: 4.0, 2: 3.0, 3: 3.5, 4: 0.0}) == searched[1]
    assert rival_of(preset, searched, {1: 4.0, 3: 3.5}) == searched[2]
    assert rival_of(preset, searched, {3: 3.5}) == searched[0]  # nothing to compare it with


def test_predicted_and_measured_latencies_are_not_mixed() -> None:
    preset = entry_of(0, 5.0, 50.0, "D2-DiT")
    predicted = replace(entry_of(1, 3.0, 20.0), latency_source="predicted")
    assert rival_of(preset, [predicted]) is None


def test_a_lucky_measurement_makes_no_slower_schedule_a_rival() -> None:
    preset = entry_of(0, 5.0, 50.0, "D2-DiT")
    lucky = replace(entry_of(1, 3.0, 49.0), predicted_latency_ms=60.0)
    faster = entry_of(2, 4.0, 48.0)
    assert rival_of(preset, [lucky, faster]) == faster


def test_likely_contenders_are_no_slower_by_the_table_whatever_was_measured() -> None:
    preset = entry_of(0, 5.0, 50.0, "D2-DiT")
    new = replace(entry_of(1, 3.0, 49.0), latency_source="predicted")
    unlucky = replace(entry_of(2, 4.0, 51.0), predicted_latency_ms=48.0)
    lucky = replace(entry_of(3, 2.0, 49.0), predicted_latency_ms=60.0)
    searched = [lucky, unlucky, new, entry_of(4, 4.5, 20.0)]
    assert likely_contenders_for(preset, searched, 2) == [new, unlucky]
    assert likely_contenders_for(preset, searched, 9) == [new, unlucky, searched[3]]

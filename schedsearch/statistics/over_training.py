"""The comparison with the hand-made schedules over training seeds: what one fine-tune hides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from schedsearch.records import ConfirmRecord
from schedsearch.statistics.comparison import Comparison, Pair, measured_by
from schedsearch.statistics.nested import nested_intervals
from schedsearch.statistics.same_protocol import Measured

Floats = NDArray[np.float64]


def compare_over_training(
    pairs: Sequence[Pair],
    retrained: Iterable[ConfirmRecord],
    *,
    training_seeds: Sequence[int],
    seeds: Sequence[int],
) -> list[Comparison]:
    """Compare every preset with its rival over fine-tunes anew and evaluation seeds.

    Differences are paired within a training and an evaluation seed. Their spread is moderated by
    that of the other pairs (:func:`~schedsearch.statistics.nested.nested_intervals`).

    Args:
        pairs: What to compare; one that was not measured alike at all seeds is left out.
        retrained: FIDs of fine-tunes anew.
        training_seeds: Rows of a table of differences, two or more.
        seeds: Its columns.
    """
    cells: dict[tuple[int, int | None, int], ConfirmRecord] = {
        (record.number, record.training_seed, record.seed): record for record in retrained
    }
    tables: dict[Pair, Floats] = {}
    for preset, rival in pairs:
        measured = [
            [cells[key] for t in training_seeds for s in seeds if (key := (n, t, s)) in cells]
            for n in (rival, preset)
        ]
        protocols: set[Measured] = {measured_by(record) for side in measured for record in side}
        complete = all(len(side) == len(training_seeds) * len(seeds) for side in measured)
        if len(training_seeds) < 2 or not seeds or not complete or len(protocols) != 1:
            continue
        ours, theirs = (np.array([record.fid for record in side]) for side in measured)
        tables[preset, rival] = (ours - theirs).reshape(len(training_seeds), len(seeds))
    if not tables:
        return []
    return [
        Comparison(
            preset=preset,
            rival=rival,
            difference=interval.mean,
            half_width=interval.half_width,
            num_seeds=len(seeds),
            num_training_seeds=len(training_seeds),
            num_better=int((table.mean(axis=1) < 0).sum()),
        )
        for ((preset, rival), table), interval in zip(
            tables.items(), nested_intervals(list(tables.values())), strict=True
        )
    ]

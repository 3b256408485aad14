"""The comparison with the hand-made schedules over training seeds: what one fine-tune hides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from schedsearch.records import ConfirmRecord
from schedsearch.statistics.comparison import Comparison, Pair, measured_by
from schedsearch.statistics.nested import nested_intervals

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
    that of the other pairs with the same training seeds
    (:func:`~schedsearch.statistics.nested.nested_intervals`).

    A training seed at which a pair lacks a cell is left out of that pair, so that an interrupted
    confirmation has verdicts too; one needs two training seeds.

    Args:
        pairs: What to compare; one that was not measured alike is left out.
        retrained: FIDs of fine-tunes anew.
        training_seeds: Rows of a table of differences.
        seeds: Its columns, one at least.
    """
    cells = {(r.number, r.training_seed, r.seed): r for r in retrained}
    tables: dict[tuple[int, ...], dict[Pair, Floats]] = {}
    for preset, rival in pairs:
        whole = tuple(
            t
            for t in training_seeds
            if all((n, t, s) in cells for n in (preset, rival) for s in seeds)
        )
        ours, theirs = ([cells[n, t, s] for t in whole for s in seeds] for n in (rival, preset))
        if len(whole) < 2 or len({measured_by(record) for record in (*ours, *theirs)}) != 1:
            continue
        steps = [our.fid - their.fid for our, their in zip(ours, theirs, strict=True)]
        table = np.array(steps).reshape(len(whole), len(seeds))
        tables.setdefault(whole, {})[preset, rival] = table
    found = [
        Comparison(
            preset=preset,
            rival=rival,
            difference=interval.mean,
            half_width=interval.half_width,
            num_seeds=len(seeds),
            num_training_seeds=len(table),
            num_better=int((table.mean(axis=1) < 0).sum()),
        )
        for alike in tables.values()
        for ((preset, rival), table), interval in zip(
            alike.items(), nested_intervals(list(alike.values())), strict=True
        )
    ]
    order = [preset for preset, _ in pairs]
    return sorted(found, key=lambda comparison: order.index(comparison.preset))

"""At which seeds, and with how many images, a row is measured."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from driving import settings_of

from schedsearch.workers.rivals.row_record import _qualities


@pytest.mark.parametrize(("confirm_samples", "held_out"), [(40, 40), (None, 16)])
def test_held_out_seeds_have_as_many_images_as_those_of_trials(
    tmp_path: Path, confirm_samples: int | None, held_out: int
) -> None:
    asked = []

    def measure(*_: Any, seed: int, num_samples: int, **__: Any) -> SimpleNamespace:
        asked.append((seed, num_samples))
        names = (
            "fid", "kid", "sample_std", "audit_fid", "class_accuracy", "nn_distance",
            "near_copies",
        )  # fmt: skip
        images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
        return SimpleNamespace(samples=images, **dict.fromkeys(names, 1.0))

    evaluation = {
        "seed": 3, "num_samples": 16, "confirm_seeds": 2, "confirm_samples": confirm_samples,
    }  # fmt: skip
    bench = SimpleNamespace(
        settings=settings_of(evaluation=evaluation), auditor=None, measure=measure
    )
    row: Any = SimpleNamespace(bench=bench, net=None)
    found, _ = _qualities(row, None, None, tmp_path)  # type: ignore[arg-type]
    assert asked == [(3, 16), (4, held_out), (5, held_out)]
    assert [quality.seed for quality in found] == [3, 4, 5]

"""Classes by import string."""

from pathlib import Path

import pytest
import yaml

from schedsearch.exceptions import ConfigError
from schedsearch.workers.loading import load_class, load_trainer


def test_trainers_by_import_string() -> None:
    assert type(load_trainer("trainers.ase:AseTrainer")).__name__ == "AseTrainer"
    assert load_class("yaml:safe_load", "x") is yaml.safe_load


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no.such.module:Trainer", "must be importable as package.module:Class"),
        ("trainers.ase:AseTrainr", "has no 'AseTrainr'"),
        ("driving:Driver", "must be created without arguments, but that failed with TypeError"),
        ("broken_module:Trainer", "failed with ZeroDivisionError: division by zero"),
        ("fractions:Fraction", "must have a method finetune"),
    ],
)
def test_what_is_no_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, message: str
) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_trainer(target)

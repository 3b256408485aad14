"""A trainer whose calls are counted."""

from typing import Any

import pytest

from trainers.ase import AseTrainer


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What each fine-tune started from, and its other arguments."""
    calls: list[tuple[Any, ...]] = []
    finetune = AseTrainer.finetune

    def counted(trainer: AseTrainer, *args: Any) -> Any:
        before = {name: value.clone() for name, value in args[0].state_dict().items()}
        calls.append((before, *args))
        return finetune(trainer, *args)

    monkeypatch.setattr(AseTrainer, "finetune", counted)
    return calls

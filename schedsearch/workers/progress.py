"""A trial's log and saved state, kept in its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from schedsearch.files.atomic import replacing
from schedsearch.runs.folder import STATE_FILE


class FileProgress:
    """Writes ``log.txt`` and, now and then, ``progress.pt``; meets ``protocols.Progress``.

    Args:
        folder: The trial's folder.
        save_every: Steps between two saved states.
    """

    def __init__(self, folder: Path, *, save_every: int) -> None:
        self._folder = folder
        self._save_every = save_every
        self._state_file = folder / STATE_FILE
        self.last_loss: float | None = None

    def take_over(self, folder: Path | None) -> None:
        """Move the saved state of an interrupted trial here, if it left one.

        It is moved, so that it is continued only once.
        """
        if folder is not None and (folder / STATE_FILE).is_file():
            (folder / STATE_FILE).replace(self._state_file)

    def note(self, message: str) -> None:
        """Append a line to ``log.txt``."""
        with (self._folder / "log.txt").open("a", encoding="utf-8") as handle:
            handle.write(message.rstrip("\n") + "\n")

    def report(self, step: int, loss: float, **values: float) -> None:
        """Log the loss of a step."""
        self.last_loss = loss
        more = "".join(f" {name}={value:.6g}" for name, value in values.items())
        self.note(f"step={step} loss={loss:.6f}{more}")

    def save(self, step: int, state: Callable[[], Mapping[str, Any]]) -> None:
        """Keep the state every ``save_every`` steps; the old one survives a crash."""
        if step % self._save_every:
            return
        import torch

        # Through a Python file: torch's own writer does not say that the disk is full.
        with replacing(self._state_file) as temporary, temporary.open("wb") as handle:
            torch.save(dict(state()), handle)

    def restore(self) -> dict[str, Any] | None:
        """The newest saved state; a damaged one is set aside and the trial starts afresh."""
        import torch

        if not self._state_file.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(
                self._state_file, map_location="cpu", weights_only=True
            )
        except Exception as error:  # noqa: BLE001 - torch raises many kinds for a damaged file
            aside = self._state_file.with_suffix(".corrupt")
            self._state_file.replace(aside)
            self.note(f"saved state is damaged and was set aside as {aside.name}: {error}")
            return None
        return state

    def done(self) -> None:
        """The trial has its result: the saved state is of no more use."""
        self._state_file.unlink(missing_ok=True)

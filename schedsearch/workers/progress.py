"""A trial's log and saved state, kept in its folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

from schedsearch.files.atomic import replacing
from schedsearch.files.checksums import opened, sealed
from schedsearch.files.digest import sha256_of
from schedsearch.files.strict_json import load_json
from schedsearch.runs.checks.own_weights import mark_of
from schedsearch.runs.folder import STATE_FILE
from schedsearch.workers.stopping import Stopped

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings import StudySettings

_LONGEST_SEAL = 64 * 1024


class FileProgress:
    """Writes ``log.txt`` and, now and then, ``progress.pt``; meets ``protocols.Progress``.

    The last line of a saved state says what it belongs to, and holds a digest of the rest.

    Args:
        folder: The trial's folder.
        save_every: Steps between two saved states.
        stop_file: A state is saved at once, and training ends, when this file is there.
        run: Which run the fine-tune belongs to.
    """

    def __init__(
        self,
        folder: Path,
        *,
        save_every: int,
        stop_file: Path | None = None,
        run: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self._save_every = save_every
        self._stop_file = stop_file
        self._state_file = folder / STATE_FILE
        self._run = dict(run)
        self._owner = dict(run)
        self.last_loss: float | None = None
        self._began, self._earlier = time.process_time(), 0.0

    @property
    def cpu_seconds(self) -> float:
        """CPU time of this attempt, and of earlier ones up to their saved state."""
        return self._earlier + time.process_time() - self._began

    def belongs_to(self, **owner: str) -> None:
        """Name the fine-tune: its schedule, its seed, and whatever else tells it from others.

        A saved state of another one is set aside, never continued.
        """
        self._owner = {**self._run, **owner}

    def take_over(self, folder: Path | None) -> None:
        """Move the saved state of an interrupted trial here, if it left one.

        It is moved, so that it is continued only once.
        """
        if folder is not None and (folder / STATE_FILE).is_file():
            (folder / STATE_FILE).replace(self._state_file)

    def note(self, message: str) -> None:
        """Append a line to ``log.txt``."""
        with (self.folder / "log.txt").open("a", encoding="utf-8") as handle:
            handle.write(message.rstrip("\n") + "\n")

    def report(self, step: int, loss: float, **values: float) -> None:
        """Log the loss of a step."""
        self.last_loss = loss
        more = "".join(f" {name}={value:.6g}" for name, value in values.items())
        self.note(f"step={step} loss={loss:.6f}{more}")

    def save(self, step: int, state: Callable[[], Mapping[str, Any]]) -> None:
        """Keep the state every ``save_every`` steps; the old one survives a crash.

        Raises:
            Stopped: If the run is stopping; the state of this step is kept.
        """
        stops = self._stop_file is not None and self._stop_file.exists()
        if step % self._save_every == 0 or stops:
            self._write(state())
        if stops:
            self.note(f"stopped after step {step}; its state is kept")
            raise Stopped

    def restore(self) -> dict[str, Any] | None:
        """The newest saved state; one that is damaged, or of another fine-tune, is set aside."""
        if not self._state_file.is_file():
            return None
        try:
            return self._read()
        except Exception as error:  # noqa: BLE001 - torch raises many kinds for a damaged file
            aside = self._state_file.with_suffix(".corrupt")
            self._state_file.replace(aside)
            self.note(f"saved state is damaged and was set aside as {aside.name}: {error}")
            return None

    def count_earlier(self) -> None:
        """Count the CPU time of the saved state, where its weights were finished and kept."""
        with contextlib.suppress(OSError, ValueError), self._state_file.open("rb") as handle:
            self._earlier = float(_seal_of(handle)[1].get("cpu_seconds", 0.0))

    def done(self) -> None:
        """The trial has its result: the saved state is of no more use."""
        self._state_file.unlink(missing_ok=True)

    def _write(self, state: Mapping[str, Any]) -> None:
        import torch

        with replacing(self._state_file) as temporary:
            # NOTE: Through a Python file: torch's own writer does not say that the disk is full.
            with temporary.open("wb") as handle:
                torch.save(dict(state), handle)
            seal = {
                "belongs_to": self._owner,
                "cpu_seconds": round(self.cpu_seconds, 3),
                "last_loss": self.last_loss,
                "sha256": sha256_of(temporary),
            }
            with temporary.open("ab") as handle:
                handle.write(f"\n{sealed(json.dumps(seal))}\n".encode())

    def _read(self) -> dict[str, Any]:
        """The state, if it is whole and of this fine-tune.

        Raises:
            ValueError: If it is not.
        """
        import torch

        with self._state_file.open("rb") as handle:
            size, seal = _seal_of(handle)
            found = seal.get("belongs_to")
            if found != self._owner:
                raise ValueError(f"it belongs to another fine-tune: {found}, not {self._owner}")
            handle.seek(0)
            if _digest_of(handle, size) != seal.get("sha256"):
                raise ValueError("it does not match its digest")
            handle.seek(0)
            state: dict[str, Any] = torch.load(handle, map_location="cpu", weights_only=True)
            self._earlier = float(seal.get("cpu_seconds", 0.0))
            self.last_loss = seal.get("last_loss")
            return state


def progress_in(folder: Path, run: RunFolder, settings: StudySettings) -> FileProgress:
    """The progress of a fine-tune in a folder of a run."""
    return FileProgress(
        folder,
        save_every=settings.recipe.save_every,
        stop_file=run.stop_file,
        run=mark_of(run),
    )


def _seal_of(handle: BinaryIO) -> tuple[int, dict[str, Any]]:
    """Length of the state, and the line behind it.

    Raises:
        ValueError: If there is no such line.
    """
    end = handle.seek(0, io.SEEK_END)
    handle.seek(max(0, end - _LONGEST_SEAL))
    tail = handle.read()
    if not tail.endswith(b"}\n"):
        raise ValueError("it does not end with its digest")
    line = tail[:-1].rpartition(b"\n")[2]
    seal: dict[str, Any] = load_json(opened(line.decode("utf-8")))
    return end - len(line) - 2, seal


def _digest_of(handle: BinaryIO, size: int) -> str:
    """SHA-256 of the first bytes of a file."""
    digest = hashlib.sha256()
    while size > 0 and (part := handle.read(min(size, 1 << 20))):
        digest.update(part)
        size -= len(part)
    return digest.hexdigest()

"""Ends a run whose Ray daemons are lost; Ray itself would wait for them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ray._private import worker as ray_worker

from schedsearch.exceptions import ExitCode, StorageError
from schedsearch.search.runners.ray_environment import WITHOUT_RAY

_PERIOD_SECONDS = 2.0
_ANSWER_SECONDS = 5.0
"""How long one question to the GCS may take."""

SILENT_SECONDS = 30.0
"""After this time without an answer the GCS is lost; Ray waits 60 seconds."""

GRACE_SECONDS = 10.0
"""How long Ray may take to return once the run is to end."""

ROOM_SECONDS = 40.0
"""How long a run waits for a node once the last one is lost."""

SCALING_SECONDS = 600.0
"""How long it waits for the first node; some clusters start nodes on demand."""

ACCELERATOR = "accelerator_type:"
"""Ray gives a node with a GPU one unit of a resource of this name and the GPU's kind."""

_DAEMONS = ("gcs_server", "raylet")
_ALIVE = 0


@contextmanager
def time_limit(seconds: float, message: str, stream: int | None = None) -> Iterator[None]:
    """End the process where Ray's compiled code does not return in time.

    No exception reaches it there. Nothing is lost: it is as if the driver was killed.

    Args:
        seconds: The limit.
        message: What to say then.
        stream: Descriptor to say it on; None takes stderr.
    """
    timer = threading.Timer(seconds, end_process, args=(message, stream))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def end_process(message: str, stream: int | None = None) -> None:
    """Say why and end with exit code 5, whatever the main thread is doing."""
    descriptor = 2 if stream is None else stream
    with suppress(OSError):  # there may be no stderr
        show_cursor = "\x1b[?25h" if os.isatty(descriptor) else ""
        os.write(descriptor, f"{show_cursor}schedsearch: {message}\n".encode())
    os._exit(int(ExitCode.STORAGE))


class RayWatch:
    """A thread that asks the GCS for its nodes while jobs run.

    Args:
        needed: Resources of one job, by Ray's names.
    """

    def __init__(self, needed: Mapping[str, float]) -> None:
        self._needed = dict(needed)
        self._client = ray_worker.global_worker.gcs_client
        self._own_node = ray_worker.global_worker.current_node_id.binary()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray-watch", daemon=True)
        self._answered = self._had_room = time.monotonic()
        self._patience = SCALING_SECONDS
        self.loss: str | None = None

    def __enter__(self) -> RayWatch:
        """Start to watch."""
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop to watch."""
        self._over.set()
        self._thread.join(timeout=2 * _ANSWER_SECONDS)

    def check(self) -> None:
        """Called in the driver's main thread.

        Raises:
            StorageError: If Ray is lost.
        """
        if self.loss is not None:
            raise StorageError(self.loss)

    def _watch(self) -> None:
        while not self._over.wait(_PERIOD_SECONDS):
            lost = self.find_loss()
            if lost is not None:
                self.loss = (
                    f"{lost}. Finished trials are kept: run the same command again, {WITHOUT_RAY}."
                )
                if not self._over.wait(GRACE_SECONDS):
                    end_process(self.loss)
                return

    def find_loss(self) -> str | None:
        """What of Ray is lost, in words; None where all is well."""
        for name in self._dead_daemons():
            return f"Ray's {name} has died"
        now = time.monotonic()
        try:
            nodes = self._client.get_all_node_info(timeout=_ANSWER_SECONDS)
        except Exception:  # noqa: BLE001 - whatever it is, there was no answer
            if now - self._answered < SILENT_SECONDS:
                return None
            return f"Ray's GCS has not answered for {now - self._answered:.0f} s"
        self._answered = now
        alive = {key.binary(): node for key, node in nodes.items() if node.state == _ALIVE}
        if self._own_node not in alive:
            return "The raylet of the driver's node is lost"
        if any(has_room(node.resources_total, self._needed) for node in alive.values()):
            self._had_room, self._patience = now, ROOM_SECONDS
        elif now - self._had_room > self._patience:
            return (
                f"No node of the Ray cluster has had room for a job ({shown(self._needed)}) for "
                f"{now - self._had_room:.0f} s"
            )
        return None

    @staticmethod
    def _dead_daemons() -> list[str]:
        """Daemons of a private runtime that have ended; a cluster's are not ours."""
        node = ray_worker._global_node
        if node is None:
            return []
        return [name for name, _ in node.dead_processes() if name in _DAEMONS]


def has_room(resources: Mapping[str, float], needed: Mapping[str, float]) -> bool:
    """Whether a node has the resources of one job, in use or not."""
    return all(resources.get(name, 0.0) >= amount for name, amount in needed.items())


def shown(resources: Mapping[str, float]) -> str:
    """Resources in words, for example ``1 CPU, 0.5 GPU, accelerator T4``."""
    words = (
        f"accelerator {kind}" if kind else f"{amount:g} {name}"
        for name, amount in resources.items()
        for kind in [name.partition(ACCELERATOR)[2]]
    )
    return ", ".join(words)


def reason_of(error: Any) -> str:
    """An error of Ray in one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__

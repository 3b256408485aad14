"""The folder of one run: where everything lies, and the lock of its driver."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.files.atomic import write_text
from schedsearch.files.problems import nearest
from schedsearch.files.strict_json import load_json
from schedsearch.runs.checks.entries import refuse_odd_entries, refuse_second_names

STATE_FILE = "progress.pt"
"""Name of a job's saved state in its folder."""

RECORD_FILE = "record.json"
"""Name of a trial's result in its folder."""

NETWORK_FILE = "network.json"
"""Record of a network that a comparison trained, in its folder."""

_RESULTS = {
    "trials/*": RECORD_FILE,
    "profile": "shared.safetensors",
    "profile/start/*": RECORD_FILE,
    "methods/networks/*/*": NETWORK_FILE,
}
"""What ends the use of a saved state, by the folder of both."""

SCHEDULE_FILE = "schedule.yaml"
"""Name of a trial's schedule file in its folder."""

METHOD_FILE = "method.yaml"
"""Name of a method file in its folder: of a row, or of a trial with exit adapters."""


class RunFolder:
    """Paths of a run; creates nothing by itself.

    Args:
        root: The folder, ``runs/<name>`` by default.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.space_file = self.root / "space.yaml"
        self.study_file = self.root / "study.db"
        self.results_file = self.root / "results.jsonl"
        self.confirmation_file = self.root / "confirmation.jsonl"
        self.latency_file = self.root / "latency.json"
        self.front_yaml = self.root / "front.yaml"
        self.front_csv = self.root / "front.csv"
        self.front_png = self.root / "front.png"
        self.lines_file = self.root / "lines.json"
        self.identity_file = self.root / "run.json"
        self.stop_file = self.root / ".stop"
        self.log_file = self.root / "driver.log"
        self.lock_file = self.root / "driver.lock"
        self.artifacts = self.root / "artifacts"
        self.reference = self.root / "reference"
        self.ray = self.root / "ray"
        self.profile = self.root / "profile"
        self.error_table = self.profile / "error_table.json"
        self.shared_weights = self.profile / _RESULTS["profile"]
        self.adapters = self.profile / "adapters.safetensors"
        self.adapters_record = self.profile / "adapters.json"
        self.costs_file = self.root / "costs.json"
        self.rivals_file = self.root / "rivals.jsonl"
        self.plans_file = self.root / "plans.jsonl"
        self.methods = self.root / "methods"
        self.method_latency_file = self.methods / "latency.json"
        self.methods_png = self.methods / "front.png"
        self.methods_csv = self.methods / "front.csv"

    @classmethod
    def of(cls, root: str) -> RunFolder:
        """The folder at a path that a job names."""
        return cls(Path(root))

    def trial(self, number: int) -> Path:
        """Folder of one trial."""
        return self.root / "trials" / f"{number:04d}"

    def weights(self, number: int) -> Path:
        """EMA weights of one trial."""
        return self.trial(number) / "ema.safetensors"

    def retrained_weights(self, number: int, training_seed: int) -> Path:
        """Retrained EMA weights of one trial, until they are measured."""
        return self.trial(number) / "retrained" / f"seed-{training_seed}" / "ema.safetensors"

    def start_check(self, start: str) -> Path:
        """Folder of the fine-tune that judges a value of ``recipe.start``."""
        return self.profile / "start" / start

    def method(self, name: str, training_seed: int | None = None) -> Path:
        """Folder of one row of a comparison; None is the first training seed."""
        folder = self.methods / name
        return folder if training_seed is None else folder / f"seed-{training_seed}"

    @property
    def shown(self) -> str:
        """The path as people type it: relative where that is shorter."""
        relative = os.path.relpath(self.root)
        return relative if len(relative) < len(str(self.root)) else str(self.root)

    @classmethod
    def existing(cls, name: str) -> RunFolder:
        """The folder of an earlier run, by path or by name below ``runs/``.

        Raises:
            ConfigError: If it is no run folder.
            StorageError: If its space.yaml is gone, or a link leads out of it.
        """
        for path in (Path(name), Path("runs") / name):
            if (path / "space.yaml").is_file():
                folder = cls(path)
                folder.refuse_links()
                return folder
            if (path / "run.json").is_file():
                raise StorageError(
                    f"{path / 'space.yaml'} is gone or no file, and nothing else says what the "
                    "results beside it mean. Restore it from a backup."
                )
        found = sorted(file.parent for file in Path("runs").glob("*/space.yaml"))
        similar = nearest(Path(name).name, [path.name for path in found])
        there = f"Runs here: {', '.join(map(str, found))}." if found else "There is no run here."
        raise ConfigError(
            f"A run folder holds space.yaml, but neither {name} nor {Path('runs') / name} does"
            f"{f'; {similar}' if similar else '.'} {there}"
        )

    def create(self) -> None:
        """Make the folders and prove that files here can be written, synced and renamed.

        Raises:
            StorageError: If the folder cannot be written.
        """
        self.refuse_links()
        try:
            for folder in (self.root, self.artifacts, self.root / "trials"):
                folder.mkdir(parents=True, exist_ok=True)
            write_text(self.root / ".probe", "write, sync and rename\n")
            (self.root / ".probe").unlink()
        except OSError as error:
            raise StorageError(
                f"A run needs a writable folder, but {self.root} failed with: {error}. "
                "Free space, change its permissions, or choose another one with --output."
            ) from error

    def refuse_links(self) -> None:
        """Refuse a folder from which a link leads elsewhere, as in one that came from others.

        Raises:
            StorageError: With the first link, device or pipe, or a folder in place of a file;
                Ray's own folder is left alone.
        """
        refuse_odd_entries(self.root, leaving_out=self.ray)

    @staticmethod
    def write(path: Path, text: str, *, mode: int | None = None) -> None:
        """Replace a text file of the run at once.

        Args:
            path: The file.
            text: Its new content.
            mode: Its permissions; None leaves them to the system.

        Raises:
            StorageError: If it cannot be written; the old content is kept.
        """
        try:
            write_text(path, text, mode=mode)
        except OSError as error:
            raise StorageError(
                f"Cannot write {path}: {error}. Free space and run the same command again; "
                "finished trials are kept."
            ) from error

    def remove_leftovers(self) -> None:
        """Delete what killed processes had half written; only while holding the lock."""
        below = (f"{name}/**/.*.tmp" for name in ("trials", "methods", "profile"))
        for pattern in (self.stop_file.name, ".*.tmp", "*/.*.tmp", *below):
            for path in self.root.glob(pattern):
                path.unlink(missing_ok=True)
        for places, result in _RESULTS.items():
            for path in self.root.glob(f"{places}/{STATE_FILE}"):
                if (path.parent / result).is_file():  # killed once it had its result
                    path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the folder's one driver.

        The kernel drops the lock with the process, so a killed driver leaves none behind.

        Raises:
            StorageError: If another driver holds it; the message names host and process. Also
                if a file of the folder is shared with another one.
        """
        journals = (self.results_file, self.confirmation_file, self.rivals_file, self.plans_file)
        refuse_second_names(self.lock_file, self.log_file, self.study_file, *journals)
        owner = {"host": socket.gethostname(), "pid": os.getpid()}
        try:
            handle = self.lock_file.open("a+")
        except OSError as error:
            raise StorageError(f"Cannot open the lock {self.lock_file}: {error}.") from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                handle.seek(0)
                raise StorageError(
                    f"A run has one driver, but {self.root} is in use by {_owner(handle.read())}. "
                    "Wait for it to end or stop it; `schedsearch status` only reads."
                ) from error
            except OSError as error:
                raise StorageError(
                    f"A run needs a folder that can be locked, but {self.lock_file} failed with: "
                    f"{error}. Choose one on another file system with --output."
                ) from error
            handle.truncate(0)
            handle.write(json.dumps(owner))
            handle.flush()
            yield

    def has_live_driver(self) -> bool:
        """Whether a driver holds the lock now."""
        try:
            with self.lock_file.open("r") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False


def _owner(text: str) -> str:
    try:
        owner = load_json(text)
        return f"process {owner['pid']} on {owner['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"

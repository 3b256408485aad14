"""``run.json``: which run a folder holds, and which data its numbers come from.

The checksums of the other files name this run, so a file of another run is found.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.files.checksums import place_of
from schedsearch.files.strict_json import check_fields, read_document, to_document

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from schedsearch.runs.folder import RunFolder

DATA = ("data", "num_images", "reference", "num_reference_images", "extractor")
"""What must stay the same as long as a run goes on."""

_RUN_ID = re.compile("[0-9a-f]{1,32}")
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """A run and its data."""

    data: str
    """Fingerprint of the training images."""
    num_images: int
    reference: str
    """Fingerprint of the images that FID compares with."""
    num_reference_images: int
    extractor: str
    """SHA-256 of the feature extractor."""
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Tells runs apart that share a database."""

    def refuse_other_data(self, now: RunIdentity, folder: str) -> None:
        """Compare the data of this run with what lies behind the same paths now.

        Raises:
            ConfigError: With both values of everything that differs.
        """
        differing = [
            f"{name}: {getattr(self, name)} -> {getattr(now, name)}"
            for name in DATA
            if getattr(self, name) != getattr(now, name)
        ]
        if differing:
            raise ConfigError(
                "All trials of a run compare by one protocol, but the data or the extractor has "
                f"changed since {folder} was started ({'; '.join(differing)}). Restore it, or "
                "choose another folder with --output."
            )

    def write(self, folder: RunFolder) -> None:
        """Replace ``run.json``.

        Raises:
            StorageError: If it cannot be written.
        """
        folder.write(folder.identity_file, to_document(asdict(self)))

    @classmethod
    def read(cls, folder: RunFolder) -> Self | None:
        """The identity of a folder; None where it has none yet.

        Raises:
            StorageError: If the file is damaged.
        """
        try:
            data = read_document(folder.identity_file)
            check_fields(cls, data)
            identity = cls(**data)
            if not _RUN_ID.fullmatch(identity.run_id):
                raise ValueError(f"run_id is {identity.run_id[:40]!r}.")
            return identity
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StorageError(
                f"Cannot read {folder.identity_file}: {str(error).rstrip('.')}. Restore it from a "
                "backup. Where the data is unchanged it may be deleted: it is made again."
            ) from error


def run_id_of(folder: RunFolder) -> str | None:
    """The run of a folder; without ``run.json`` the one that its files name, None if none does.

    Raises:
        StorageError: If ``run.json`` is damaged.
    """
    if (identity := RunIdentity.read(folder)) is not None:
        return identity.run_id
    for path in (folder.space_file, folder.results_file, folder.rivals_file, folder.plans_file):
        with contextlib.suppress(OSError), path.open("rb") as handle:
            line = handle.readline(_LONGEST_LINE).decode("utf-8", "replace")
            place = place_of(line if path == folder.space_file else line.rstrip("\n"))
            if _RUN_ID.fullmatch(run := place.partition("/")[0]):
                return run
    return None


def place_in(folder: RunFolder, path: Path) -> str | None:
    """What the checksum of a file of a run says: the run and the file; None for an unknown run.

    Raises:
        StorageError: If ``run.json`` is damaged.
    """
    run = run_id_of(folder)
    return None if run is None else f"{run}/{path.relative_to(folder.root).as_posix()}"


def read_own(folder: RunFolder, path: Path) -> dict[str, Any]:
    """The object of a JSON file of a run.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged, or belongs to another run.
        StorageError: If ``run.json`` is damaged.
    """
    return read_document(path, place_in(folder, path))


def write_own(folder: RunFolder, path: Path, data: Mapping[str, Any]) -> None:
    """Replace a JSON file of a run.

    Raises:
        StorageError: If it cannot be written, or ``run.json`` is damaged.
    """
    folder.write(path, to_document(data, place_in(folder, path)))

"""``run.json``: which run a folder holds, and which data its numbers come from."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Self

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.files.strict_json import check_fields, read_document, to_document

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder

DATA = ("data", "num_images", "reference", "num_reference_images", "extractor")
"""What must stay the same as long as a run goes on."""


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
            return cls(**data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StorageError(
                f"Cannot read {folder.identity_file}: {str(error).rstrip('.')}. Restore it from a "
                "backup. Where the data is unchanged it may be deleted: it is made again."
            ) from error

"""``raised.json``: that all trials of a run are measured as its front was confirmed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from schedsearch.atomic import write_text
from schedsearch.exceptions import StorageError

if TYPE_CHECKING:
    from schedsearch.search.run_folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class RaisedRung:
    """That the low rung was raised, and why."""

    tau: float
    """Kendall's tau of the search's FIDs against the confirmed ones."""
    num_schedules: int
    """Schedules that it was measured on."""
    num_steps: int
    """Steps by which the fine-tunes of all trials are continued."""

    @property
    def consequence(self) -> str:
        """What follows from it, for people."""
        further = f" after {self.num_steps} further steps" if self.num_steps else ""
        return f"So all trials are measured with fresh seeds{further}"

    def save(self, folder: RunFolder) -> None:
        """Keep it; from then on every start of the run goes by it."""
        try:
            write_text(folder.raised_file, json.dumps(asdict(self), indent=1) + "\n")
        except OSError as error:
            raise StorageError(f"Cannot write {folder.raised_file}: {error}.") from error

    @classmethod
    def load(cls, folder: RunFolder) -> RaisedRung | None:
        """Read it; None where the search's FIDs are trusted.

        Raises:
            StorageError: If the file is damaged.
        """
        try:
            return cls(**json.loads(folder.raised_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise StorageError(
                f"Cannot read {folder.raised_file}: {error}. Delete it; the ranks are compared "
                "again."
            ) from error

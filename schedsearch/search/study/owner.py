"""A study belongs to one run folder, also in a database that runs share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedsearch.exceptions import StorageError
from schedsearch.files.printable import without_passwords
from schedsearch.runs.checks.identity import RunIdentity
from schedsearch.runs.folder import RunFolder
from schedsearch.search.study.driver_storage import for_driver
from schedsearch.search.study.storage import open_storage, open_study

if TYPE_CHECKING:
    import optuna

    from schedsearch.settings import StudySettings

OWNER = "owner"
"""User attribute of a study: run id, folder, host, process and space of its last driver."""


def open_own_study(
    folder: RunFolder, settings: StudySettings, *, file: Path | None = None
) -> optuna.Study:
    """Open the study of a run, and note that it belongs to it.

    Args:
        folder: The run folder, locked.
        settings: Its search space.
        file: Where a study in the folder lies; None means ``study.db``.

    Raises:
        StorageError: If the study belongs to another run folder, or cannot be opened.
    """
    url = settings.search.storage
    study = open_study(for_driver(open_storage(folder, url, file)), settings.name)
    identity = RunIdentity.read(folder)
    run_id = "" if identity is None else identity.run_id
    if url is not None:
        refuse_other_owner(study, run_id, folder, url)
    if run_id:
        study.set_user_attr(OWNER, _owner(folder, run_id))
        if url is not None:  # another driver may have come between
            refuse_other_owner(study, run_id, folder, url)
    return study


def refuse_other_owner(study: optuna.Study, run_id: str, folder: RunFolder, url: str) -> None:
    """Leave studies of other runs alone.

    Raises:
        StorageError: With host, process and folder of the owner.
    """
    owner = study.user_attrs.get(OWNER)
    if owner is None:
        # NOTE: the trials of a driver that died before its first result have an owner too.
        if folder.results_file.exists() or not study.get_trials(deepcopy=False):
            return
        found = "trials of no known run"
    elif owner.get("run_id") == run_id and not _is_copied(owner, folder):
        return
    else:
        state = "at work" if _is_alive(owner) else "not running now"
        found = (
            f"the run in {owner.get('folder')} on {owner.get('host')} (process "
            f"{owner.get('pid')}, {state})"
        )
    raise StorageError(
        f"A study belongs to one run folder, but {study.study_name!r} in {without_passwords(url)} "
        f"holds {found}. Change name or search.storage for {folder.shown}."
    )


def _owner(folder: RunFolder, run_id: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "folder": str(folder.root),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _start_of(os.getpid()),
        "space_sha256": hashlib.sha256(folder.space_file.read_bytes()).hexdigest(),
    }


def _is_copied(owner: dict[str, Any], folder: RunFolder) -> bool:
    """Whether the owner's own folder is still there, so that this one is a copy of it."""
    theirs = Path(str(owner.get("folder")))
    if theirs == folder.root or owner.get("host") != socket.gethostname():
        return False
    with contextlib.suppress(StorageError, OSError):
        identity = RunIdentity.read(RunFolder(theirs))
        return identity is not None and identity.run_id == owner.get("run_id")
    return False


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether the owner's process runs on this machine; a number that was given anew does not."""
    if owner.get("host") != socket.gethostname():
        return False
    started = _start_of(owner.get("pid"))
    return started is not None and started == owner.get("started")


def _start_of(pid: object) -> str | None:
    """When a process started, with the boot that the time counts from; None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return f"{boot}:{fields[19]}"

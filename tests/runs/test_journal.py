"""The record of a run under crashes, full disks and editors."""

import os
import resource
import signal
from pathlib import Path

import pytest
from driving import record_of

from schedsearch.exceptions import StorageError
from schedsearch.records import TrialRecord
from schedsearch.runs.journal import Journal

RECORDS = [record_of(n, (10, 9, 8), fid=float(n) if n % 2 else None) for n in range(4)]


@pytest.fixture
def journal(tmp_path: Path) -> Journal[TrialRecord]:
    return Journal(tmp_path / "results.jsonl", TrialRecord.from_json)


@pytest.fixture
def filled(journal: Journal[TrialRecord]) -> Journal[TrialRecord]:
    for record in RECORDS:
        journal.append(record)
    return journal


def test_entries_come_back_in_order(filled: Journal[TrialRecord]) -> None:
    assert filled.read() == RECORDS
    assert filled.repair() == 0
    assert filled.path.read_text().count("\n") == len(RECORDS)


def test_no_file_is_an_empty_journal(journal: Journal[TrialRecord]) -> None:
    assert journal.read() == []
    assert journal.repair() == 0
    assert not journal.path.exists()


def test_a_cut_at_any_byte_costs_at_most_the_last_entry(filled: Journal[TrialRecord]) -> None:
    content = filled.path.read_bytes()
    start = content.rfind(b"\n", 0, -1) + 1
    for cut in range(start, len(content), 7):
        filled.path.write_bytes(content[:cut])
        assert filled.read() == RECORDS[:-1]
        assert filled.path.stat().st_size == cut  # reading changes nothing
        assert filled.repair() == cut - start
        filled.append(RECORDS[-1])
        assert filled.path.read_bytes() == content


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", b"{half", b"[1]"])
def test_a_damaged_line_is_named(filled: Journal[TrialRecord], damage: bytes) -> None:
    lines = filled.path.read_bytes().split(b"\n")
    lines[1] = damage
    filled.path.write_bytes(b"\n".join(lines))
    with pytest.raises(StorageError, match=r"results\.jsonl:2: ") as caught:
        filled.read()
    assert "\n" not in str(caught.value)


def test_an_entry_is_on_the_disk_before_append_returns(
    journal: Journal[TrialRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def fsync(handle: int) -> None:
        synced.append(os.fstat(handle).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    for record in RECORDS:
        journal.append(record)
        assert synced[-1] == journal.path.stat().st_size
    assert len(synced) == len(RECORDS)


def test_a_full_disk_leaves_whole_lines_only(filled: Journal[TrialRecord]) -> None:
    """A limit on the size of files stands in for the disk; in a process of its own."""
    size = filled.path.stat().st_size
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
        try:
            filled.append(RECORDS[0])
        except StorageError as error:
            os._exit(3 if "Free space" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert filled.read() == RECORDS
    assert filled.path.stat().st_size == size


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    folder = Journal(tmp_path, TrialRecord.from_json)
    for action in (folder.read, folder.repair, lambda: folder.append(RECORDS[0])):
        with pytest.raises(StorageError, match=str(tmp_path)):
            action()

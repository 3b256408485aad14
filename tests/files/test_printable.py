"""Text from files: no control character and no password reaches a terminal or a log."""

import io
import logging
import os
from pathlib import Path

import pytest

from schedsearch.files.atomic import write_text
from schedsearch.files.printable import (
    PrintableFormatter,
    PrintableStream,
    has_password,
    printable,
)
from schedsearch.report.console import PrintableConsole

URL = "postgresql://bob:hunter2@db.example/x"


@pytest.mark.parametrize(
    "code",
    [0x1B, 0x07, 0x00, 0x7F, 0x9B, 0x0D, 0x202E, 0x61C, 0x200B, 0x2028, 0xFEFF, 0xE0041],
)
def test_control_characters_are_escaped(code: int) -> None:
    shown = printable(f"a{chr(code)}b\n\tc")
    assert chr(code) not in shown
    assert shown.startswith("a\\")
    assert shown.endswith("b\n\tc")


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "mysql+pymysql://u:p/w@rd@host:3306/x",
        "redis://:hunter2@host",
        "postgresql://bob:hunter2'\"s@db/x",
        "postgresql://h/x?user=a&password=hunter2&sslmode=require",
        "postgresql://h/x?sslpassword=hunter2",
        "postgresql://h/x?pass%77ord=hunter2",
        "postgresql://bob@corp:hunter2@host/x",
        "postgresql://bob:p@hunter2@host/x",
        "postgresql://bob:my hunter2@host/x",
        "postgresql:///bob:hunter2@host/x",
    ],
)
def test_passwords_of_urls_are_hidden(url: str) -> None:
    shown = printable(f"but '{url}' failed")
    assert "hunter2" not in shown
    assert "p/w" not in shown
    assert "***" in shown
    assert has_password(url)


def test_other_urls_stay() -> None:
    for url in (
        "sqlite:////tmp/x.db",
        "http://host:8000/ab",
        "mysql://user@host/x",
        "sqlite:////a@b/x.db",
    ):
        assert printable(url) == url


def test_streams_tables_and_logs_are_safe() -> None:
    out = io.StringIO()
    print(f"\x1b]0;title\x07 {URL}", file=PrintableStream(out))
    PrintableConsole(out, 80).print(f"\x1b[31mlabel {URL}")
    record = logging.makeLogRecord({"msg": f"\x1b[2J {URL}", "levelname": "INFO", "name": "x"})
    out.write(PrintableFormatter("%(message)s").format(record))
    assert "\x1b" not in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_a_closed_stream_takes_text() -> None:
    closed = io.StringIO()
    closed.close()
    print("lost", file=PrintableStream(closed), flush=True)


def test_a_terminal_that_closed_takes_text() -> None:
    ours, theirs = os.openpty()
    os.close(ours)
    with os.fdopen(theirs, "w") as terminal:
        print("lost", file=PrintableStream(terminal), flush=True)


def test_a_file_with_a_password_is_its_owners_alone(tmp_path: Path) -> None:
    write_text(tmp_path / "space.yaml", f"storage: {URL}\n")
    assert (tmp_path / "space.yaml").stat().st_mode & 0o777 == 0o600
    write_text(tmp_path / "other.yaml", "storage: null\n")
    assert (tmp_path / "other.yaml").stat().st_mode & 0o077

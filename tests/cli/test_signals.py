"""Ctrl-C and SIGTERM during a long command."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from schedsearch.cli.commands import presets
from schedsearch.cli.main import main
from schedsearch.cli.signals import stopping_with
from schedsearch.search import campaign

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _own_handlers() -> Iterator[None]:
    """A test run in the background inherits that Ctrl-C is ignored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _lose_an_interrupt(number: int) -> None:
    try:
        os.kill(os.getpid(), number)
    except KeyboardInterrupt:
        raise RuntimeError("a callback failed") from None


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_that_became_another_error_is_still_one(number: int) -> None:
    """As compiled code does, for example while a picture is drawn."""
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="Run it again"), stopping_with("Run it again."):
        _lose_an_interrupt(number)
    assert signal.getsignal(number) == before


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="mine"), stopping_with("Run it again."):
        raise ValueError("mine")


@pytest.mark.parametrize("number", SIGNALS)
def test_an_ignored_signal_stays_ignored(number: int) -> None:
    signal.signal(number, signal.SIG_IGN)
    with stopping_with("Run it again."):
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_every_command_ends_with_one_line_and_130(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also while its modules are imported; what it half wrote is removed on the way out."""

    def add_arguments(*args: object) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(presets, "add_arguments", add_arguments)
    assert main(["presets"]) == 130
    assert capsys.readouterr().err == "schedsearch: interrupted\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupted_run_ends_with_one_line_and_130(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run_search(*args: object, **kwargs: object) -> None:
        _lose_an_interrupt(number)

    monkeypatch.setattr(campaign, "run_search", run_search)
    assert main(["run", "digits_dit", "--quiet", "--output", str(tmp_path)]) == 130
    assert capsys.readouterr().err == (
        "schedsearch: interrupted. The same command resumes; finished trials are kept.\n"
    )

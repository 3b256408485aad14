"""The tables of the driver's cost, at tiny sizes."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from benchmarks import driver


class HereAndNow:
    """Runs what is submitted in this process."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None: ...

    def __enter__(self) -> "HereAndNow":
        return self

    def __exit__(self, *_exc: object) -> None: ...

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future = Future[Any]()
        future.set_result(function(*args))
        return future


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_both_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "ProcessPoolExecutor", HereAndNow)
    monkeypatch.setattr(driver, "NUM_PROPOSALS", 2)
    assert driver.main(["--trials", "12", "--workers", "1", "20", "--num-trials", "26"]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    header, _, *trials = map(cells, first.splitlines())
    assert [len(row) for row in trials] == [len(header)]
    done, mean, slowest, told, resumed, memory = map(float, trials[0])
    assert done == 12
    assert 0 < mean <= slowest < resumed + slowest
    assert min(told, memory) > 0
    header, _, one, twenty = map(cells, second.splitlines())
    assert len(one) == len(twenty) == len(header)
    # One worker ends a trial in 35 to 55 s; twenty end 20 at a time.
    assert 1 <= float(one[2]) <= 2
    assert 10 <= float(twenty[2]) <= 35
    assert float(twenty[3].rstrip("%")) < 20
    assert float(twenty[4]) > 0

"""``schedsearch dashboard``: the run's study with its notes and pictures, on loopback only."""

import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from forks import start_cli
from tiny_runs import run_cli, wait_until

from schedsearch.cli.commands.dashboard import study_page


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def get(url: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.status, answer.read()


def listening(port: int) -> set[str]:
    """Addresses that listen on a port, as the kernel writes them."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        path = Path(table)
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            address, state = line.split()[1], line.split()[3]
            host, _, number = address.rpartition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(host)
    return found


@pytest.fixture
def dashboard(run_copy: Path) -> Iterator[tuple[str, Path]]:
    port, log = free_port(), run_copy.parent / "dashboard.txt"
    process = start_cli("dashboard", run_copy, "--port", port, log=log)
    try:
        wait_until(lambda: "http://" in log.read_text() or process.poll() is not None, 60)
        assert listening(port) == {"0100007F"}  # 127.0.0.1
        yield f"http://127.0.0.1:{port}", log
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()


@pytest.mark.slow
def test_the_study_its_notes_and_its_pictures(dashboard: tuple[str, Path]) -> None:
    host, log = dashboard
    assert f"{host}/dashboard/studies/1" in log.read_text()
    assert get(f"{host}/dashboard/studies/1")[0] == 200
    (study,) = json.loads(get(f"{host}/api/studies")[1])["study_summaries"]
    assert study["study_name"] == "tiny"
    detail: dict[str, Any] = json.loads(get(f"{host}/api/studies/1?after=0")[1])
    trials = detail["trials"]
    assert [t["state"] for t in trials].count("Complete") >= 7
    assert "Pareto front of tiny" in detail["note"]["body"]
    complete = next(t for t in trials if t["artifacts"])
    assert "interval (data to noise)" in complete["note"]["body"]
    for artifact in complete["artifacts"]:
        path = f"/artifacts/1/{complete['trial_id']}/{artifact['artifact_id']}"
        assert get(host + path)[0] == 200
        if artifact["filename"] == "samples.png":
            assert path in complete["note"]["body"]
            assert get(host + path)[1].startswith(b"\x89PNG")
    pictures = detail["artifacts"]
    assert [p["filename"] for p in pictures] == ["front.png"]
    path = f"/artifacts/1/{pictures[0]['artifact_id']}"
    assert path in detail["note"]["body"]
    assert get(host + path)[1].startswith(b"\x89PNG")


def test_the_page_is_that_of_the_run_among_other_studies(tmp_path: Path) -> None:
    storage = optuna.storages.get_storage(f"sqlite:///{tmp_path / 'shared.db'}")
    assert study_page(storage, "tiny") == ""
    optuna.create_study(storage=storage, study_name="another")
    ours = optuna.create_study(storage=storage, study_name="tiny")
    assert study_page(storage, "tiny") == f"/studies/{ours._study_id}" == "/studies/2"


def test_a_port_that_is_taken(run_copy: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        done = run_cli("dashboard", run_copy, "--port", port)
    assert done.code == 2
    assert "Choose another one with --port" in done.err
    far = run_cli("dashboard", run_copy, "--port", 70000)
    assert far.code == 2
    assert "70000" in far.err
    assert "0-65535" in far.err

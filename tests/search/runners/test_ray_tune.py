"""The same promises on Ray, nothing of Ray on the terminal, and no port open to others."""

from pathlib import Path

import pytest
from tiny_runs import children_of, faulty_space, records_of, start_cli, trainings, wait_until

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
LISTEN = "0A"


def listening_addresses(pids: set[int]) -> set[str]:
    """Local addresses, in hexadecimal, on which processes listen by TCP."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(str(link.readlink()))
            except OSError:  # closed meanwhile
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_on_ray(tmp_path: Path) -> None:
    space = faulty_space(
        tmp_path,
        {9: "killed_once_after_step_1", 8: "raises"},
        warm_start=["full", [9] * 10, [8] * 10],
        evaluation={"confirm_seeds": 1},
        search={"n_trials": 3},
        resources={"backend": "ray", "num_workers": 1},
    )
    run, log = tmp_path / "run", tmp_path / "log.txt"
    driver = start_cli("run", space, "--output", run, log=log)
    try:
        wait_until(lambda: bool(records_of(run)) or driver.poll() is not None, 240)
        addresses = listening_addresses(children_of(driver.pid))
        code = driver.wait(timeout=240)
    finally:
        driver.kill()
    printed = log.read_text()
    assert code == 3, printed
    records = records_of(run)
    assert sum(record.complete for record in records) == 3
    (failed,) = (record for record in records if not record.complete)
    assert failed.reason == "RuntimeError: the trainer broke"
    assert trainings(tmp_path).count((9,) * 10) == 2
    (again,) = (record for record in records if record.depths == (9,) * 10)
    log_of_retry = run / "trials" / f"{again.number:04d}" / "log.txt"
    assert "resumed after step 1 of 2" in log_of_retry.read_text()
    assert (run / "confirmation.jsonl").read_text()  # a second stage on the same runtime

    assert "interrupted: the worker died; its schedule runs again" in printed
    for word in ("ray", "raylet", "Tune", "pid=", "Traceback", "Warning", "WARNING", "http"):
        assert word not in printed.replace(tmp_path.name, ""), printed

    assert addresses, "a private runtime listens somewhere"
    assert addresses <= LOOPBACK

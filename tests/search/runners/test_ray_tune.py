"""The same promises on Ray, and nothing of Ray on the terminal."""

from pathlib import Path

import pytest
from tiny_runs import faulty_space, records_of, start_cli, trainings


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_on_ray(tmp_path: Path) -> None:
    space = faulty_space(
        tmp_path,
        {9: "killed_once_after_step_1", 8: "raises"},
        warm_start=["full", [9] * 10, [8] * 10],
        search={"n_trials": 3},
        resources={"backend": "ray", "num_workers": 2},
    )
    run, log = tmp_path / "run", tmp_path / "log.txt"
    driver = start_cli("run", space, "--output", run, log=log)
    try:
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

    assert "interrupted: the worker died; its schedule runs again" in printed
    for word in ("ray", "raylet", "Tune", "pid=", "Traceback", "Warning", "WARNING", "http"):
        assert word not in printed.replace(tmp_path.name, ""), printed

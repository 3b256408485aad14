"""The GPU script for ``enable`` on a CPU: a tiny PixArt."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import schedsearch
from benchmarks.gpu_enable import (
    SAVES_14,
    build_model,
    build_parser,
    build_run,
    check_depths,
    ideal_share,
    main,
    schedules_for,
)
from schedsearch.schedules.exit_schedule import ExitSchedule

ROWS = ["plain", "full", "saves-14", "D3-DiT"]
SMALL = [
    "--device", "cpu", "--dtype", "float32", "--batch", "2", "--num-steps", "4", "--repeats", "2",
    "--blocks", "5", "--heads", "1", "--latent-size", "4", "--backend", "eager",
]  # fmt: skip


def rows_in(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_it_measures_every_row_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rows.jsonl"
    arguments = [*SMALL, "--output", str(file)]
    assert main(arguments) == 0
    rows = rows_in(file)
    assert [(row["protocol"]["mode"], row["row"]) for row in rows] == [
        (mode, name) for mode in ("eager", "blocks") for name in ROWS
    ]
    for row in rows:
        assert row["ms"] == pytest.approx(row["ratio"] * row["full_ms"])
        assert (row["ratio"] == 1.0) == (row["row"] == "plain")
    header, _, plain, full, *_ = capsys.readouterr().out.splitlines()
    assert header == "| row | blocks run | eager | blocks |"
    assert plain.startswith("| plain | 1.0000 | ")
    assert full.startswith("| full | 1.0000 | ")
    # A torn last line and a lost row are measured again, nothing else.
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:1], *lines[2:]])[:-20])
    assert main(arguments) == 0
    added = rows_in(file)[len(rows) - 2 :]
    assert [(row["protocol"]["mode"], row["row"]) for row in added] == [
        ("eager", "full"),
        ("blocks", "D3-DiT"),
    ]
    before = file.read_bytes()
    monkeypatch.setattr("benchmarks.gpu_enable.measure", pytest.fail)
    assert main(arguments) == 0
    assert file.read_bytes() == before
    file.unlink()
    assert main([*arguments, "--minutes", "0"]) == 0
    assert "time is up before eager: plain, full" in capsys.readouterr().err


def test_the_schedules_save_what_their_names_say() -> None:
    args = build_parser().parse_args(["--output", "x"])
    assert schedules_for(28)["saves-14"] == SAVES_14
    shares = {name: ideal_share(row, args) for name, row in schedules_for(28).items()}
    assert shares["full"] == shares["plain"] == 1.0
    assert shares["saves-14"] == pytest.approx(0.86, abs=0.002)
    assert shares["D3-DiT"] == pytest.approx(0.72, abs=0.01)


def test_a_time_of_other_blocks_is_refused() -> None:
    args = build_parser().parse_args([*SMALL, "--output", "x"])
    model = build_model(args)
    run = build_run(model, args)
    schedule = ExitSchedule.flat(3)
    with schedsearch.enabled(model, schedule), torch.inference_mode():
        with pytest.raises(RuntimeError, match=r"ran calls of \{\} blocks"):
            check_depths(model, schedule)
        run()
        check_depths(model, schedule)
        assert schedsearch.summary(model).calls == {3: 4}
        with pytest.raises(RuntimeError, match=r"ran calls of \{3: 4\} blocks"):
            check_depths(model, ExitSchedule.flat(5))

"""Worlds drawn from a measured run: true to what was measured, uncertain elsewhere."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.drawn_worlds import Knowledge, World, gaps_to_presets, main
from schedsearch.exceptions import ConfigError
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.results import RunResults
from schedsearch.schedules.exit_schedule import ExitSchedule


@pytest.fixture(scope="module")
def known(complete_run: Path) -> Knowledge:
    return Knowledge.fit([str(complete_run)])


def test_worlds_agree_where_something_was_measured(complete_run: Path, known: Knowledge) -> None:
    measured = {e.depths: e.fid_search for e in RunResults.load(RunFolder(complete_run)).entries}
    assert len(known.depths) == len(measured)
    doubt = 4 * known.scale * math.sqrt(known.noise) + 1e-3
    for depths, fid in measured.items():
        schedule = ExitSchedule(depths)
        for seed in range(3):
            drawn, blocks = World(known, seed).truth(schedule)
            assert abs(math.log(drawn / fid)) <= doubt
            assert blocks == schedule.num_blocks(known.weights)


def test_a_world_is_one_draw(known: Knowledge) -> None:
    rng = np.random.default_rng(0)
    schedules = [known.space.sample(rng) for _ in range(6)]
    world = World(known, 5)
    first = [world.truth(s)[0] for s in schedules]
    assert [world.truth(s)[0] for s in schedules] == first
    assert [World(known, 5).truth(s)[0] for s in schedules[:1]] == first[:1]
    new = [s for s in schedules if s.depths not in {tuple(map(int, d)) for d in known.depths}]
    others = {World(known, seed).truth(new[0])[0] for seed in range(4)}
    assert len(others) == 4
    assert world.observe(new[0], 3) == world.observe(new[0], 3)
    assert world.observe(new[0], 3)[0] != world.truth(new[0])[0]


def test_the_report_names_every_preset(
    complete_run: Path, known: Knowledge, capsys: pytest.CaptureFixture[str]
) -> None:
    names = list(known.presets)[1:]
    gaps = gaps_to_presets(World(known, 0), "additive", 8)
    assert len(gaps) == len(names) > 0
    assert np.isfinite(gaps).any()
    main([str(complete_run), "--worlds", "2", "--trials", "8"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    assert "2 worlds drawn from" in printed


def test_runs_of_two_protocols_do_not_mix(run_copy: Path, complete_run: Path) -> None:
    lines = (run_copy / "results.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        if record.get("evaluation"):
            record["evaluation"]["protocol"] = "another"
    text = "".join(json.dumps(record) + "\n" for record in records)
    (run_copy / "results.jsonl").write_text(text)
    with pytest.raises(ConfigError, match="share one protocol"):
        Knowledge.fit([str(complete_run), str(run_copy)])

"""Verdicts over training seeds: pairing, rungs and what is measured once only."""

from __future__ import annotations

import pytest
from driving import entry_of, settings_of

from benchmarks import training_seeds
from benchmarks.training_seeds import unused, verdict_table


def entry(trial, depths, name=None):
    import dataclasses

    return dataclasses.replace(entry_of(trial, 2.0, 50.0 + trial, name), depths=depths)


PRESET, RIVAL = entry(1, (9,) * 10, "D2-DiT"), entry(2, (8,) * 10)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(-0.5, "better"), (0.5, "worse"), (0.0, "no difference")]
)
def test_differences_are_paired_within_a_training_and_an_evaluation_seed(shift, verdict):
    level = [[1.0, 5.0, 9.0], [2.0, 6.0, 10.0], [30.0, 40.0, 50.0]]  # drowns unpaired differences
    noise = [[0.01, -0.01, 0.0], [0.0, 0.01, -0.01], [-0.01, 0.0, 0.01]]
    ours = [
        [a + shift + e for a, e in zip(row, errors, strict=True)]
        for row, errors in zip(level, noise, strict=True)
    ]
    fids = {(PRESET.depths, 100): level, (RIVAL.depths, 100): ours}
    table = verdict_table({"D2-DiT": (PRESET, RIVAL)}, fids, 100, "protocol")
    (row,) = table.rows
    assert row["difference"] == pytest.approx(shift, abs=1e-9)
    assert row["low"] < shift < row["high"]
    assert row["verdict"] == verdict
    assert "| D2-DiT |" in table.to_markdown()


def test_one_seed_gives_no_interval(capsys):
    with pytest.raises(SystemExit):
        training_seeds.main(["somewhere", "--training-seeds", "1"])
    assert "two training seeds" in capsys.readouterr().err


def test_seeds_that_the_run_used_are_left_out():
    settings = settings_of(
        search={"seed": 1001},
        evaluation={"seed": 2001, "confirm_seeds": 2, "runoff_seeds": 1},
    )
    assert unused(1000, 3, settings) == (1000, 1002, 1003)
    assert unused(2000, 3, settings) == (2000, 2005, 2006)  # 2001 to 2004 are the run's
    assert unused(2**31 + 1000, 2, settings) == (2**31 + 1000, 2**31 + 1002)  # the profile's


def test_the_auditor_has_a_verdict_of_its_own():
    level = [[1.0, 5.0], [2.0, 6.0]]
    lower = [[value - 0.5 for value in row] for row in level]
    pairs = {"D2-DiT": (PRESET, RIVAL)}
    fids = {(PRESET.depths, 100): level, (RIVAL.depths, 100): lower}
    audited = {(PRESET.depths, 100): lower, (RIVAL.depths, 100): level}
    (row,) = verdict_table(pairs, fids, 100, "protocol", audited).rows
    assert (row["verdict"], row["audit_verdict"]) == ("better", "worse")
    assert row["audit_difference"] == pytest.approx(0.5)
    assert "audit_verdict" not in verdict_table(pairs, fids, 100, "protocol").to_markdown()


@pytest.mark.parametrize("audited", [2, 1, 0])
def test_chosen_presets_with_the_auditor_where_all_rows_have_it(
    audited, complete_run, monkeypatch, capsys
):
    """Of the preset's and the rival's rows, in the order of the jobs."""

    def measure_all(jobs, run, rows, processes):
        known = {}
        for number, job in enumerate(dict.fromkeys(jobs)):
            value = [float(sum(job.depths)) + 0.1 * job.training_seed] * 5
            known[job.key] = row = {"fids": value, "features": "digits CNN"}
            if number % 2 < audited:
                row |= {"audit_fids": value, "audit_features": "digits MLP"}
        return known

    monkeypatch.setattr(training_seeds, "measure_all", measure_all)
    training_seeds.main([str(complete_run), "--preset", "D3-DiT"])
    done = capsys.readouterr()
    assert "| D3-DiT |" in done.out
    assert "| D2-DiT |" not in done.out
    assert ("audit: of the same images by digits MLP" in done.out) == (audited == 2)
    assert ("rows of" in done.err) == (audited == 1)
    with pytest.raises(SystemExit):
        training_seeds.main([str(complete_run), "--preset", "D9-DiT"])
    assert "--preset must be of" in capsys.readouterr().err

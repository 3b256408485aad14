"""How the noise of FID is summed up."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.noise_of_fid import main, noise_row


def test_spreads_of_fids_and_of_differences() -> None:
    common = np.array([0.0, 1.0, -1.0, 2.0])
    own = np.array([[0.0, 0.1, 0.0, 0.1], [0.0, 0.0, 0.0, 0.0]])
    row = noise_row("x", 5.0 + common + own, np.array([4.0, 5.0]))
    spread = [(common + one).var(ddof=1) for one in own]
    assert row["fid_sd"] == pytest.approx(np.sqrt(np.mean(spread)))
    assert row["difference_sd"] == pytest.approx(own[0].std(ddof=1))
    assert row["above_many"] == pytest.approx(((5.55 - 4.0) + (5.5 - 5.0)) / 2)
    assert row["estimate"] == "x"
    unpaired = noise_row("x", 5.0 + common + own, np.array([4.0, 5.0]), paired=False)
    assert unpaired["difference_sd"] == pytest.approx(np.sqrt(sum(spread)))


@pytest.mark.slow
def test_a_finished_run(complete_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(complete_run), "--seeds", "3", "--num-samples", "64"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(lines) == 5  # head, rule and three estimates
    cells = {line.split(" | ")[0]: line.strip("| ").split(" | ") for line in lines[2:]}
    plain = float(cells["| the same noise"][2])
    assert plain < float(cells["| other noise for each schedule"][2])
    assert float(cells["| the same noise and a control"][1]) > 0


def test_one_seed_has_no_spread(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["gone", "--seeds", "1"])
    assert "two seeds or more" in capsys.readouterr().err

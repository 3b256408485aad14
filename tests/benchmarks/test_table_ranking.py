"""Rank agreement of error tables with measured FIDs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import table_ranking
from benchmarks.schedulebench.tables import Table, shipped
from benchmarks.table_ranking import agreement, main, mean_weights, ranking, sums
from schedsearch.diffusion.process import build_process
from schedsearch.settings import DiffusionSettings

DEPTHS = np.array([[2, 2], [2, 1], [1, 2], [1, 1]])
FID = np.array([1.0, 2.0, 3.0, 4.0])


def test_agreement_by_hand() -> None:
    blocks = DEPTHS.sum(1)
    columns = DEPTHS - 1
    proxies = {
        "blocks": -blocks.astype(float),
        "right": sums(np.array([[3.0, 0.0], [1.0, 0.0]]), columns),
        "wrong": sums(np.array([[-3.0, 0.0], [-1.0, 0.0]]), columns),
    }
    assert proxies["right"].tolist() == [0.0, 1.0, 3.0, 4.0]
    rows = {row["ranked by"]: row for row in agreement(proxies, FID, blocks)}
    assert (rows["right"]["tau"], rows["wrong"]["tau"]) == (1.0, -1.0)
    assert rows["blocks"]["tau"] == pytest.approx(5 / 6)  # one tie in six pairs
    assert rows["blocks"]["tau, equal blocks"] == 0.0
    assert rows["right"]["tau, equal blocks"] == 1.0


def test_many_pairs_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_ranking, "PAIRS", 3)
    (row,) = agreement({"fid": FID}, FID, np.zeros(4, np.int64))
    assert row["tau"] == row["tau, equal blocks"] == 1.0


def test_the_weights_are_means_of_alpha() -> None:
    process = build_process(DiffusionSettings())
    weights = mean_weights(process, 10)
    assert weights.shape == (10, 1)
    assert weights[0, 0] == pytest.approx(0.98, abs=0.02)
    assert (np.diff(weights[:, 0]) < 0).all()


def test_the_weight_matters_on_the_table_that_ships() -> None:
    """What the README says of the default table, and why losses are weighted."""
    rows = {row["ranked by"]: row for row in ranking(Table.load(shipped("digits"))).rows}
    weighted, plain = rows["pretrained, weighted"], rows["pretrained, plain"]
    assert weighted["tau"] > 0.8 > plain["tau"]
    assert weighted["tau, equal blocks"] > 0 > plain["tau, equal blocks"]


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--space", "digits"])
    out = capsys.readouterr().out
    assert "## digits-286" in out
    assert "| blocks | 0.86 | 0.00 |" in out

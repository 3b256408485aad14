"""The weights behind the rows of ``uvit-3003``."""

from __future__ import annotations

import hashlib
import shutil

from benchmarks.schedulebench import uvit_weights
from benchmarks.schedulebench.tables import FOLDER, Table, shipped
from benchmarks.schedulebench.uvit import SPACE


def test_the_shipped_weights_are_those_of_the_shipped_rows():
    table = Table.load(shipped("uvit"))
    found = hashlib.sha256((FOLDER / "uvit-shared.safetensors").read_bytes()).hexdigest()
    assert table.protocol["weights_sha256"] == found[:16]
    assert len(table.depths) == SPACE.size() == 3003


def test_shared_weights_need_no_pretraining(tmp_path):
    shipped_weights = FOLDER / "uvit-shared.safetensors"
    shutil.copy(shipped_weights, tmp_path / uvit_weights.SHARED)
    uvit_weights.pretrain(tmp_path)
    uvit_weights.share(tmp_path, print)
    assert [path.name for path in tmp_path.iterdir()] == [uvit_weights.SHARED]
    assert (tmp_path / uvit_weights.SHARED).read_bytes() == shipped_weights.read_bytes()

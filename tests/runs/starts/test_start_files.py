"""What a run folder says of the start of its fine-tunes."""

from pathlib import Path
from typing import Any

import pytest
from driving import settings_of
from made_up_starts import adapters_settings, check_of, leave, start_record

from schedsearch.exceptions import StorageError
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.starts.files import RECORD, StartFiles
from schedsearch.runs.starts.records import StartCheck, StartRecord


@pytest.mark.parametrize(
    ("fid", "audit", "keeps", "why"),
    [
        (1.9, 0.9, True, ""),
        (1.9, 1.0, True, ""),
        (2.05, 0.5, True, ""),  # within the noise of FID, half of the auditor's
        (1.0, 1.05, True, ""),
        (2.0, 1.0, False, ", as adapters do not help"),
        (2.2, 0.95, False, ", as adapters do not help"),  # not worth it
        (3.0, 0.1, False, ", as a judge calls adapters worse"),
        (0.5, 1.5, False, ", as a judge calls adapters worse"),
    ],
)
def test_both_judges_have_a_say(fid: float, audit: float, keeps: bool, why: str) -> None:
    check = check_of(fid, audit)
    assert check.keeps_adapters is keeps
    assert check.sentence == (
        f"Fine-tunes start from {'exit adapters' if keeps else 'plain exits'}{why}: "
        f"D4-DiT gets FID {fid:.3f} instead of 2.000, auditor's FID {audit:.3f} instead of 1.000 "
        "(3 held-out seeds, n=64)."
    )


def test_a_fine_tune_that_failed_is_the_reason() -> None:
    failed = start_record("adapters", [], [], failed="loss is nan at step 1.")
    check = StartCheck(plain=check_of(1.0, 1.0).plain, adapters=failed)
    assert not check.keeps_adapters
    assert check.sentence == (
        "Fine-tunes start from plain exits: the check's fine-tune from adapters failed (loss is "
        "nan at step 1)."
    )


@pytest.mark.parametrize(("fid", "keeps"), [(1.5, True), (3.5, False)])
def test_a_folder_with_a_check(tmp_path: Path, fid: float, keeps: bool) -> None:
    settings = adapters_settings()
    files = leave(tmp_path, settings, fid, 0.5)
    assert files.are_complete
    assert files.use_adapters() is files.may_use_adapters() is keeps
    assert StartFiles(RunFolder(tmp_path), settings_of()).check() is None
    (tmp_path / "profile" / "adapters.safetensors").write_bytes(b"adapterz")
    assert not files.has_adapters()
    assert files.are_complete is not keeps  # what is not used need not be there


def test_a_folder_without(tmp_path: Path) -> None:
    files = StartFiles(RunFolder(tmp_path), adapters_settings())
    assert not files.are_complete
    assert files.may_use_adapters()
    with pytest.raises(StorageError, match=r"Trials need the check.*Run the same command"):
        files.use_adapters()
    plain = StartFiles(RunFolder(tmp_path), settings_of())
    assert plain.use_adapters() is plain.may_use_adapters() is plain.are_wanted is False


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"recipe": {"lr": 1.0}}, False),
        ({"recipe": {"num_steps": 3}}, False),
        ({"search": {"seed": 1}}, False),
        ({"solver": {"num_steps": 4}}, False),
        ({"evaluation": {"num_samples": 65}}, False),
        ({"warm_start": ["D2-DiT"]}, False),
        ({"search": {"n_trials": 9}}, True),
        ({"resources": {"num_workers": 2}}, True),
        ({"evaluation": {"confirm_seeds": 4, "latency_batch": 9}}, True),
    ],
    ids=str,
)
def test_other_settings_need_another_check(
    tmp_path: Path, changes: dict[str, Any], same: bool
) -> None:
    leave(tmp_path, adapters_settings(), 1.0, 0.5)
    files = StartFiles(RunFolder(tmp_path), adapters_settings(**changes))
    assert files.has_adapters() is same
    assert (files.check() is not None) is same


def test_other_weights_need_another_check(tmp_path: Path) -> None:
    files = leave(tmp_path, adapters_settings(), 1.0, 0.5)
    assert files.record("plain", "sha256:0") is not None
    assert files.record("plain", "sha256:1") is None
    assert files.has_adapters("sha256:0")
    assert not files.has_adapters("sha256:1")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-9],
        lambda text: "[]",
        lambda text: text.replace('"label"', '"lable"'),
        lambda text: text.replace("1.75", '"low"'),
        lambda text: text.replace('"failed": null', '"failed": "both"'),
        lambda text: text.replace('"start"', '"start": 1, "and"'),
    ],
    ids=["torn", "list", "key", "text", "both", "type"],
)
def test_a_damaged_outcome_is_none(tmp_path: Path, damage: Any) -> None:
    files = leave(tmp_path, adapters_settings(), 1.0, 0.5)
    path = RunFolder(tmp_path).start_check("plain") / RECORD
    assert StartRecord.read(path) is not None
    path.write_text(damage(path.read_text()))
    assert StartRecord.read(path) is None
    assert files.check() is None

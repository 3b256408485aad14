"""Records as plain data."""

import json
import math
from dataclasses import replace

import pytest
from driving import confirm_of, evaluation_of, record_of

from schedsearch.records import ConfirmRecord, TrialRecord, TrialState
from schedsearch.schedules.exit_schedule import ExitSchedule

DEPTHS = (10, 9, 8)


@pytest.mark.parametrize("fid", [2.5, None])
def test_records_survive_a_line(fid: float | None) -> None:
    record = record_of(
        3, DEPTHS, fid, label="D2", stage_seconds={"load": 0.5}, versions={"torch": "2"}
    )
    line = record.to_json()
    assert "\n" not in line
    assert TrialRecord.from_json(line) == record
    assert record.complete == (fid is not None)
    for confirmation in (confirm_of(3, 1, 2.5), confirm_of(3, 1, 2.5, training_seed=8)):
        assert ConfirmRecord.from_json(confirmation.to_json()) == confirmation
    audited = replace(confirm_of(1, 2, 3.0), audit_fid=7.0, audit_features="LeNet")
    assert ConfirmRecord.from_json(audited.to_json()) == audited


def test_edges_survive_a_line() -> None:
    record = replace(record_of(3, DEPTHS), edges=(0.0, 250.0, 600.0, 1000.0))
    again = TrialRecord.from_json(record.to_json())
    assert again == record
    assert again.schedule == ExitSchedule(DEPTHS, (0.0, 250.0, 600.0, 1000.0))
    line = json.loads(record_of(3, DEPTHS).to_json())
    del line["edges"]
    assert TrialRecord.from_json(json.dumps(line)).schedule == ExitSchedule(DEPTHS)


def test_state_and_evaluation_agree() -> None:
    with pytest.raises(ValueError, match="an evaluation exactly when it is complete"):
        record_of(0, DEPTHS, state=TrialState.FAILED)
    with pytest.raises(ValueError, match="an evaluation exactly when it is complete"):
        record_of(0, DEPTHS, evaluation=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": "7"}, "TrialRecord.number: unexpected value '7'"),
        ({"number": None}, "TrialRecord.number: unexpected value None"),
        ({"number": True}, "TrialRecord.number: unexpected value True"),
        ({"number": 1.5}, "TrialRecord.number: unexpected value 1.5"),
        ({"depths": 5}, "TrialRecord.depths: expected a list, got 5"),
        ({"depths": "10 9 8"}, "TrialRecord.depths: expected a list, got '10 9 8'"),
        ({"depths": []}, "at least one interval"),
        ({"depths": [10, "9"]}, "interval 1 has '9'"),
        ({"depths": [10, -1]}, "interval 1 has -1"),
        ({"edges": 5}, "TrialRecord.edges: expected a list or null, got 5"),
        ({"edges": [0, 1000]}, "3 intervals have 4 edges, got 2"),
        ({"edges": [0, "1", 2, 1000]}, "edges of an exit schedule are numbers"),
        ({"label": 3}, "TrialRecord.label: unexpected value 3"),
        ({"versions": ["2.1"]}, "TrialRecord.versions: expected an object"),
        ({"versions": {"torch": [[]]}}, "TrialRecord.versions: unexpected value"),
        ({"stage_seconds": {"load": "1"}}, "TrialRecord.stage_seconds: unexpected value"),
        ({"stage_seconds": {"load": True}}, "TrialRecord.stage_seconds: unexpected value"),
        ({"state": "running"}, "'running' is not a valid TrialState"),
        ({"state": "failed"}, "an evaluation exactly when it is complete, but got state='failed'"),
        ({"evaluation": 5}, "Evaluation: expected an object, got 5"),
        ({"evaluation": "good"}, "Evaluation: expected an object, got 'good'"),
        ({"evaluation": {"fid": 1.0}}, "Evaluation: missing or unknown keys features, kid, "),
        ({"seconds": "long"}, "TrialRecord.seconds: unexpected value 'long'"),
        ({"surprise": 1}, "TrialRecord: missing or unknown keys surprise"),
    ],
    ids=str,
)
def test_a_wrong_record_is_refused(change: dict[str, object], message: str) -> None:
    data = json.loads(record_of(3, DEPTHS).to_json()) | change
    with pytest.raises(ValueError, match=message):
        TrialRecord.from_json(json.dumps(data))


@pytest.mark.parametrize("key", ["fid", "latency_ms", "features"])
def test_a_wrong_evaluation_is_refused(key: str) -> None:
    data = json.loads(record_of(3, DEPTHS).to_json())
    data["evaluation"][key] = [1]
    with pytest.raises(ValueError, match=f"Evaluation.{key}: unexpected value"):
        TrialRecord.from_json(json.dumps(data))


@pytest.mark.parametrize("line", ["", "{", "[]", "7", "null", '"text"'])
def test_what_is_no_record(line: str) -> None:
    for cls in (TrialRecord, ConfirmRecord):
        with pytest.raises(ValueError):  # noqa: PT011 - any, as for JSON itself
            cls.from_json(line)


def test_no_prefix_of_a_record_is_a_record() -> None:
    line = record_of(3, DEPTHS).to_json()
    for cut in range(len(line)):
        with pytest.raises(ValueError):  # noqa: PT011 - any, as for JSON itself
            TrialRecord.from_json(line[:cut])


def test_keys_with_a_default_may_be_missing() -> None:
    data = {"number": 1, "seed": 2, "num_samples": 64, "fid": 1.5, "kid": 0.1, "features": "x"}
    data["sample_std"] = 0.5
    record = ConfirmRecord.from_json(json.dumps(data))
    assert (record.training_seed, record.audit_fid) == (None, None)
    assert (record.nn_distance, record.near_copies) == (None, None)
    trial = json.loads(record_of(3, DEPTHS).to_json())
    del trial["origin"]
    assert TrialRecord.from_json(json.dumps(trial)) == record_of(3, DEPTHS)
    del data["fid"]
    with pytest.raises(ValueError, match="missing or unknown keys fid"):
        ConfirmRecord.from_json(json.dumps(data))


@pytest.mark.parametrize(("fid", "name"), [(math.nan, "fid"), (math.inf, "fid"), (1.0, None)])
def test_an_objective_that_is_no_number_is_named(fid: float, name: str | None) -> None:
    assert evaluation_of(fid, 10.0).non_finite() == name


def test_a_latency_that_is_no_number_is_named() -> None:
    assert evaluation_of(1.0, math.nan).non_finite() == "latency_ms"

"""Brings the journal, the trial folders and the study into agreement when a run starts.

The journal is the record. Trials of a driver that died are found as RUNNING in the study:
one whose result exists is told from it, the others are closed and their schedules enqueued
again. A study that was lost is rebuilt with the same trial numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from schedsearch.files.checksums import opened
from schedsearch.records import TrialRecord
from schedsearch.runs.checks.identity import place_in
from schedsearch.runs.checks.rules import AHEAD, PER_LINE, trial_rules
from schedsearch.runs.folder import RECORD_FILE
from schedsearch.search.study.bulk import CHUNK, add_trials

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from schedsearch.runs.folder import RunFolder
    from schedsearch.runs.journal import Journal
    from schedsearch.schedules.space import SearchSpace
    from schedsearch.settings import StudySettings


def depths_of(trial: FrozenTrial, space: SearchSpace) -> tuple[int, ...] | None:
    """The schedule of a trial in any state; None when it died before."""
    if (depths := trial.user_attrs.get("depths")) is not None:
        return tuple(int(depth) for depth in depths)
    params: dict[str, Any] = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    if set(space.param_names()) <= set(params):
        return space.decode(params).depths
    return None


def reconcile(
    study: optuna.Study,
    journal: Journal[TrialRecord],
    folder: RunFolder,
    settings: StudySettings,
    tell: Callable[[str], None] = lambda _: None,
) -> Sequence[TrialRecord]:
    """Repair what a crash left and return all finished trials.

    Only safe while holding the run folder's lock: every RUNNING trial is taken for dead.

    Args:
        study: The Optuna study, which belongs to this folder.
        journal: The record of finished trials; a torn last line is cut off.
        folder: The run folder.
        settings: The search space.
        tell: Is told how far a rebuild is.
    """
    space = settings.space.build()
    journal.repair()
    records = journal.read()
    by_number = {record.number: record for record in records}
    lost = _finished_but_unrecorded(study, folder, by_number, space)
    num_trials = len(study.get_trials(deepcopy=False))
    lost += unrecorded(folder, by_number.values(), settings, first=num_trials)
    for record in lost:
        journal.append(record)
        records.append(record)
        by_number[record.number] = record
    rebuild(study, by_number, folder, space, tell)
    retried = {
        trial.user_attrs.get("retry_of")
        for trial in study.get_trials(deepcopy=False)
        if trial.state is OptunaState.WAITING
    }
    open_states = (OptunaState.RUNNING, OptunaState.WAITING)
    for trial in study.get_trials(deepcopy=False, states=open_states):
        if trial.number in by_number:
            # WAITING when a power cut took the newest commits; every line was synced.
            study._storage.set_trial_state_values(trial._trial_id, OptunaState.RUNNING)
            tell_record(study, trial.number, by_number[trial.number])
        elif trial.state is OptunaState.RUNNING:
            _interrupt(study, trial, space, enqueue=trial.number not in retried)
    return records


def kept_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What a new attempt at a schedule keeps: its name, and where it comes from."""
    return {
        key: attributes[key] for key in ("label", "origin", "accumulate") if attributes.get(key)
    }


def tell_record(study: optuna.Study, number: int, record: TrialRecord) -> None:
    """Tell Optuna a record: COMPLETE with (FID, latency), or FAIL."""
    if record.evaluation is not None:
        study.tell(number, record.evaluation.values)
    else:
        study.tell(number, state=OptunaState.FAIL)


def _finished_but_unrecorded(
    study: optuna.Study,
    folder: RunFolder,
    by_number: dict[int, TrialRecord],
    space: SearchSpace,
) -> list[TrialRecord]:
    """Results that a worker wrote and the driver did not live to record."""
    found = []
    # Not of trials that were closed: their schedules are enqueued again already.
    states = (OptunaState.RUNNING, OptunaState.COMPLETE)
    for trial in study.get_trials(deepcopy=False, states=states):
        if trial.number in by_number or "duplicate_of" in trial.user_attrs:
            continue
        try:
            record = kept_record(folder, trial.number)
        except (OSError, ValueError):
            continue
        same = record.number == trial.number and record.depths == depths_of(trial, space)
        if same and record.evaluation is not None and record.evaluation.non_finite() is None:
            found.append(record)
    return found


def unrecorded(
    folder: RunFolder, records: Collection[TrialRecord], settings: StudySettings, first: int = 0
) -> list[TrialRecord]:
    """Results in folders of trials that ``records`` lack, of schedules without a result.

    Args:
        folder: The run folder.
        records: The lines of ``results.jsonl``.
        settings: The run's settings.
        first: Number of the first trial to look at.

    Raises:
        ValueError: If a record is not of this run.
    """
    check = trial_rules(settings)
    for record in records:
        check(record)
    known = {record.number for record in records}
    done = {record.depths for record in records if record.complete}
    found = []
    for number in trial_folders(folder, len(records)):
        if number < first or number in known:
            continue
        try:
            record = kept_record(folder, number)
            check(record)
        except (OSError, ValueError):
            continue
        if record.number == number and record.complete and record.depths not in done:
            done.add(record.depths)
            found.append(record)
    return found


def trial_folders(folder: RunFolder, num_records: int) -> list[int]:
    """Numbers of the folders under ``trials/``, as far as a run of this size can have them."""
    names = (path.name for path in folder.root.glob("trials/[0-9]*"))
    most = AHEAD + PER_LINE * (num_records + 1)
    return sorted(int(name) for name in names if name.isdecimal() and int(name) <= most)


def kept_record(folder: RunFolder, number: int) -> TrialRecord:
    """The result that a worker wrote into the folder of its trial.

    Raises:
        OSError: If there is none.
        ValueError: If it is damaged, or belongs to another trial or run.
    """
    path = folder.trial(number) / RECORD_FILE
    text = path.read_bytes().decode("utf-8").rstrip("\n")
    return TrialRecord.from_json(opened(text, place_in(folder, path)))


def rebuild(
    study: optuna.Study,
    by_number: Mapping[int, TrialRecord],
    folder: RunFolder,
    space: SearchSpace,
    tell: Callable[[str], None],
    *,
    replacing: bool = False,
) -> None:
    """Add the trials that the journal knows and the study does not, by number.

    Numbers of folders are not given to other schedules: their files belong to the old ones.

    Args:
        study: The study.
        by_number: The record.
        folder: The run folder.
        space: The space of schedules.
        tell: Is told how far it is, where that takes a while.
        replacing: Whether the trials that the study has go; else it keeps them.
    """
    first = 0 if replacing else len(study.get_trials(deepcopy=False))
    last = max([*by_number, *trial_folders(folder, len(by_number))], default=-1)
    trials = [_trial_of(by_number.get(number), space) for number in range(first, last + 1)]
    if not trials and not replacing:
        return

    def told(count: int) -> None:
        if len(trials) >= CHUNK:
            tell(f"rebuilding the study: {count} of {len(trials)} trials")

    add_trials(study, trials, told, replacing=replacing)


def _trial_of(record: TrialRecord | None, space: SearchSpace) -> FrozenTrial:
    if record is None:  # was interrupted, or a duplicate
        attrs: dict[str, Any] = {"interrupted": True, "rebuilt": True}
        return optuna.create_trial(state=OptunaState.FAIL, user_attrs=attrs)
    attrs = {
        "depths": list(record.depths),
        "rebuilt": True,
        **kept_attributes({"label": record.label, "origin": record.origin}),
    }
    bounds = optuna.distributions.IntDistribution(space.min_depth, space.max_depth)
    params = space.to_params(record.schedule)
    return optuna.create_trial(
        state=OptunaState.COMPLETE if record.complete else OptunaState.FAIL,
        values=record.evaluation.values if record.evaluation else None,
        params=params,
        distributions=dict.fromkeys(params, bounds),
        user_attrs=attrs,
    )


def _interrupt(
    study: optuna.Study, trial: FrozenTrial, space: SearchSpace, *, enqueue: bool
) -> None:
    """Enqueue the schedule again, then close the trial; in this order, so none is lost."""
    depths = depths_of(trial, space)
    if depths is not None and enqueue:
        attrs: dict[str, Any] = {
            "depths": list(depths),
            "retry_of": trial.number,
            **kept_attributes(trial.user_attrs),
        }
        study.enqueue_trial(space.to_params(space.schedule(depths)), user_attrs=attrs)
    running = optuna.Trial(study, trial._trial_id)
    running.set_user_attr("interrupted", True)
    running.set_user_attr("reason", "the driver died")
    study.tell(trial.number, state=OptunaState.FAIL)

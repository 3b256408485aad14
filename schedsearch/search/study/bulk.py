"""Adds many finished trials to a study in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial

from schedsearch.search.study.driver_storage import DriverStorage
from schedsearch.search.study.rows import rows_of, table_of, utc

CHUNK = 500
"""Trials between two messages."""


def add_trials(
    study: optuna.Study,
    trials: Sequence[FrozenTrial],
    tell: Callable[[int], None] = lambda _: None,
    *,
    replacing: bool = False,
) -> None:
    """Add finished trials after those that a study has; all of them or none.

    Optuna adds one trial per transaction, with about 30 queries each.

    Args:
        study: The study, in a database.
        trials: What :func:`optuna.create_trial` makes, with finite values.
        tell: Is told how many are done.
        replacing: Remove those that the study has; what was read of them before is wrong then.
    """
    backend = getattr(study._storage, "_backend", study._storage)
    if not isinstance(backend, RDBStorage):
        study.add_trials(trials)
        return
    with backend.engine.begin() as connection:
        chosen = models.StudyModel.study_id == study._study_id
        connection.execute(sqlalchemy.select(models.StudyModel).where(chosen).with_for_update())
        own = models.TrialModel.study_id == study._study_id
        if replacing:
            _remove(connection, own)
        count = sqlalchemy.select(sqlalchemy.func.count()).where(own)
        first = int(connection.execute(count).scalar_one())
        for start in range(0, len(trials), CHUNK):
            numbered = dict(enumerate(trials[start : start + CHUNK], start=first + start))
            _insert(connection, study._study_id, numbered)
            tell(start + len(numbered))
    if isinstance(study._storage, DriverStorage):
        study._storage.forget(study._study_id)


def _remove(connection: sqlalchemy.Connection, chosen: sqlalchemy.ColumnElement[bool]) -> None:
    """Delete trials with all that belongs to them; Optuna deletes row by row."""
    numbers = sqlalchemy.select(models.TrialModel.trial_id).where(chosen)
    for model in (
        models.TrialUserAttributeModel,
        models.TrialSystemAttributeModel,
        models.TrialParamModel,
        models.TrialValueModel,
        models.TrialIntermediateValueModel,
        models.TrialHeartbeatModel,
    ):
        connection.execute(sqlalchemy.delete(model).where(model.trial_id.in_(numbers)))
    connection.execute(sqlalchemy.delete(models.TrialModel).where(chosen))


def _insert(
    connection: sqlalchemy.Connection, study_id: int, numbered: dict[int, FrozenTrial]
) -> None:
    """Insert trials by number, with all that belongs to them."""
    rows = [
        {
            "study_id": study_id,
            "number": number,
            "state": trial.state,
            "datetime_start": utc(trial.datetime_start),
            "datetime_complete": utc(trial.datetime_complete),
        }
        for number, trial in numbered.items()
    ]
    connection.execute(sqlalchemy.insert(table_of(models.TrialModel)), rows)
    query = sqlalchemy.select(models.TrialModel.number, models.TrialModel.trial_id).where(
        models.TrialModel.study_id == study_id, models.TrialModel.number >= min(numbered)
    )
    ids = {int(number): int(key) for number, key in connection.execute(query)}
    for model, several in rows_of([(ids[n], trial) for n, trial in numbered.items()]).items():
        connection.execute(sqlalchemy.insert(table_of(model)), several)

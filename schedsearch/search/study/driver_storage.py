"""An Optuna study in a database that one driver writes: read once, written step by step."""

from __future__ import annotations

import copy
import json
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from schedsearch.search.study.rows import param_row, rows_of, table_of, utc, value_rows


class DriverStorage(_CachedStorage):
    """Keeps a study in memory, and writes each step of its driver in one transaction.

    Optuna writes every parameter and attribute by itself, and reads running trials again before
    each use. With one writer neither is needed: see :func:`together`.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._loaded: set[int] = set()
        self._attrs: dict[int, dict[str, Any]] = {}
        self._depth = 0
        self._new_rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._changes: list[sqlalchemy.Update] = []
        self._study_rows: dict[tuple[int, str], str] = {}

    # ---- read -----------------------------------------------------------------------------

    def forget(self, study_id: int) -> None:
        """Read a study again, which was changed past this storage."""
        self._loaded.discard(study_id)

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        if study_id not in self._loaded:
            super()._read_trials_from_remote_storage(study_id)
            self._loaded.add(study_id)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial, to be read only."""
        if (place := self._trial_id_to_study_id_and_number.get(trial_id)) is None:
            return super().get_trial(trial_id)
        study_id, number = place
        return self._studies[study_id].trials[number]

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return all trials by number, or those in some states."""
        self._read_trials_from_remote_storage(study_id)
        trials = list(self._studies[study_id].trials.values())  # they were added by number
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the attributes, which hold the notes of all trials."""
        if study_id not in self._attrs:
            self._attrs[study_id] = super().get_study_system_attrs(study_id)
        return dict(self._attrs[study_id])

    # ---- change ---------------------------------------------------------------------------

    def delete_study(self, study_id: int) -> None:
        """Delete a study and what is known of it."""
        super().delete_study(study_id)
        self._loaded.discard(study_id)
        self._attrs.pop(study_id, None)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set an attribute of the study."""
        self.get_study_system_attrs(study_id)
        self._attrs[study_id][key] = value
        self._study_rows[study_id, key] = json.dumps(value)
        self._write_unless_together()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Add a trial, which is in the database at once."""
        self._read_trials_from_remote_storage(study_id)
        template = template_trial or optuna.create_trial(state=TrialState.RUNNING)
        trial = copy.deepcopy(template)
        trial.number = len(self._studies[study_id].trials)
        with self._backend.engine.begin() as connection:
            self._write(connection)
            values = {
                "study_id": study_id,
                "number": trial.number,
                "state": trial.state,
                "datetime_start": utc(trial.datetime_start),
                "datetime_complete": utc(trial.datetime_complete),
            }
            done = connection.execute(sqlalchemy.insert(table_of(models.TrialModel)), values)
            assert done.inserted_primary_key is not None
            trial._trial_id = int(done.inserted_primary_key[0])
            for model, rows in rows_of([(trial._trial_id, trial)]).items():
                connection.execute(sqlalchemy.insert(table_of(model)), rows)
        with self._lock:
            self._add_trials_to_cache(study_id, [trial])
        return trial._trial_id

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Set a parameter."""
        trial = self._changed(trial_id)
        study = self._studies[self._trial_id_to_study_id_and_number[trial_id][0]]
        known = study.param_distribution.setdefault(param_name, distribution)
        check_distribution_compatibility(known, distribution)
        value = distribution.to_external_repr(param_value_internal)
        trial.params = {**trial.params, param_name: value}
        trial.distributions = {**trial.distributions, param_name: distribution}
        self._add(models.TrialParamModel, trial_id, param_row(param_name, value, distribution))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of a trial."""
        trial = self._changed(trial_id)
        known, trial.user_attrs = key in trial.user_attrs, {**trial.user_attrs, key: value}
        self._set_attribute(models.TrialUserAttributeModel, trial_id, key, value, known=known)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of a trial that users do not see."""
        trial = self._changed(trial_id)
        known, trial.system_attrs = key in trial.system_attrs, {**trial.system_attrs, key: value}
        self._set_attribute(models.TrialSystemAttributeModel, trial_id, key, value, known=known)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Set how far a trial is."""
        if state == TrialState.RUNNING and self.get_trial(trial_id).state != TrialState.WAITING:
            return False
        trial = self._changed(trial_id)
        trial.state = state
        if state == TrialState.RUNNING:
            trial.datetime_start = datetime.now()
        if state.is_finished():
            trial.datetime_complete = datetime.now()
        if values is not None:
            trial.values = list(values)
            for row in value_rows(trial):
                self._add(models.TrialValueModel, trial_id, row)
        table = table_of(models.TrialModel)
        self._change(
            sqlalchemy.update(table)
            .where(table.c.trial_id == trial_id)
            .values(
                state=state,
                datetime_start=utc(trial.datetime_start),
                datetime_complete=utc(trial.datetime_complete),
            )
        )
        return True

    def _changed(self, trial_id: int) -> FrozenTrial:
        """Put a copy of a trial in its place, since others may hold the old one."""
        study_id, number = self._trial_id_to_study_id_and_number[trial_id]
        trial = copy.copy(self._studies[study_id].trials[number])
        self.check_trial_is_updatable(trial_id, trial.state)
        self._studies[study_id].trials[number] = trial
        return trial

    # ---- write ----------------------------------------------------------------------------

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what the block changes in one transaction at its end, also after an error."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self._write_unless_together()

    def _set_attribute(
        self, model: Any, trial_id: int, key: str, value: Any, *, known: bool
    ) -> None:
        row = {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        if known and (model, trial_id, key) not in self._new_rows:
            table = table_of(model)
            same = table.c.trial_id == trial_id, table.c.key == key
            self._change(sqlalchemy.update(table).where(*same).values(row))
            return
        self._new_rows[model, trial_id, key] = row
        self._write_unless_together()

    def _add(self, model: Any, trial_id: int, row: dict[str, Any]) -> None:
        self._new_rows[model, trial_id, *row.values()] = {"trial_id": trial_id, **row}
        self._write_unless_together()

    def _change(self, statement: sqlalchemy.Update) -> None:
        self._changes.append(statement)
        self._write_unless_together()

    def _write_unless_together(self) -> None:
        if not self._depth and (self._new_rows or self._changes or self._study_rows):
            with self._backend.engine.begin() as connection:
                self._write(connection)

    def _write(self, connection: sqlalchemy.Connection) -> None:
        rows: dict[Any, list[dict[str, Any]]] = {}
        for (model, *_), row in self._new_rows.items():
            rows.setdefault(model, []).append(row)
        for model, several in rows.items():
            connection.execute(sqlalchemy.insert(table_of(model)), several)
        for statement in self._changes:
            connection.execute(statement)
        table = table_of(models.StudySystemAttributeModel)
        for (study_id, key), text in self._study_rows.items():
            # NOTE: Notes are written by dashboards too, so they may be there already.
            same = table.c.study_id == study_id, table.c.key == key
            update = sqlalchemy.update(table).where(*same).values(value_json=text)
            if not connection.execute(update).rowcount:
                row = {"study_id": study_id, "key": key, "value_json": text}
                connection.execute(sqlalchemy.insert(table), row)
        self._new_rows, self._changes, self._study_rows = {}, [], {}


def for_driver(storage: BaseStorage) -> BaseStorage:
    """Return the storage that a driver uses for its study; other storages stay as they are."""
    if isinstance(storage, _CachedStorage):
        storage = storage._backend
    return DriverStorage(storage) if isinstance(storage, RDBStorage) else storage


@contextmanager
def together(study: optuna.Study) -> Iterator[None]:
    """Let the changes of a block reach the study's database in one transaction, where it has one.

    A trial that is added is there at once, with all changes before it.
    """
    if not isinstance(study._storage, DriverStorage):
        yield
        return
    with study._storage.together():
        yield

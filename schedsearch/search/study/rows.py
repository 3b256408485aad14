"""Trials as rows of Optuna's tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial

_json_of = lru_cache(maxsize=64)(distribution_to_json)


def table_of(model: Any) -> sqlalchemy.Table:
    """Return the table of a model."""
    return cast(sqlalchemy.Table, model.__table__)


def rows_of(trials: Sequence[tuple[int, FrozenTrial]]) -> dict[Any, list[dict[str, Any]]]:
    """Return what belongs to trials as rows by table; tables without rows are left out.

    Args:
        trials: Trials by their key in the database.
    """
    rows: dict[Any, list[dict[str, Any]]] = {}
    for key, trial in trials:
        parts = {
            models.TrialValueModel: value_rows(trial),
            models.TrialParamModel: [
                param_row(name, value, trial.distributions[name])
                for name, value in trial.params.items()
            ],
            models.TrialUserAttributeModel: _attribute_rows(trial.user_attrs),
            models.TrialSystemAttributeModel: _attribute_rows(trial.system_attrs),
        }
        for model, several in parts.items():
            if several:
                rows.setdefault(model, []).extend({"trial_id": key, **row} for row in several)
    return rows


def value_rows(trial: FrozenTrial) -> list[dict[str, Any]]:
    """Return the values of a trial as rows."""
    rows = []
    for objective, value in enumerate(trial.values or ()):
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        rows.append({"objective": objective, "value": stored, "value_type": kind})
    return rows


def param_row(name: str, value: Any, distribution: BaseDistribution) -> dict[str, Any]:
    """Return a parameter as a row."""
    return {
        "param_name": name,
        "param_value": distribution.to_internal_repr(value),
        "distribution_json": _json_of(distribution),
    }


def _attribute_rows(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


def utc(moment: datetime | None) -> datetime | None:
    """Return a naive local time as Optuna's tables hold it: naive, in UTC."""
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)

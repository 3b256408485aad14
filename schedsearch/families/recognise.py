"""Finds the family of a model by its class."""

from __future__ import annotations

from schedsearch.exceptions import ConfigError
from schedsearch.families.family import TIMES, Clock, Family
from schedsearch.families.table import FAMILIES
from schedsearch.files.problems import ended, nearest, nearest_or_list


def recognise(model: object) -> Family:
    """Return the family of a model.

    Raises:
        ConfigError: If no row of the table describes its class.
    """
    kind = type(model)
    for family in FAMILIES:
        if family.class_name == kind.__name__ and _is_in(kind.__module__, family):
            missing = [name for name in family.needs if not hasattr(model, name)]
            if not missing:
                return family
            raise ConfigError(
                f"A {kind.__module__}.{kind.__name__} lacks {', '.join(missing)} of the official "
                f"{family.class_name}, so a schedule cannot be applied to it. Add a row to "
                "schedsearch/families/table.py."
            )
    names = list(dict.fromkeys(family.class_name for family in FAMILIES))
    hint = nearest(kind.__name__, names) or "its class is unknown."
    raise ConfigError(
        f"A schedule cannot be applied to a {kind.__module__}.{kind.__name__}; {hint} "
        f"Known are {', '.join(names)}; a new family is a row in schedsearch/families/table.py."
    )


def choose_clock(family: Family, model: object, time: str | None) -> Clock:
    """Return the clock of a model: its class's own, or what the caller says.

    Args:
        family: The model's family.
        model: The model.
        time: A name in ``TIMES``, or None.

    Raises:
        ConfigError: If the class does not say what it is fed and neither does the caller, they
            disagree, or it is fed something else.
    """
    key = family.no_clock_if
    if key is not None and getattr(getattr(model, "config", None), key, None):
        raise ConfigError(
            f"This {family.class_name} has {key}, as in Sana Sprint, which is fed an angle "
            "instead of a noise level. Use a model without it."
        )
    if time is None:
        if family.clock is None:
            raise ConfigError(_ambiguous(family, model))
        return family.clock
    if time not in TIMES:
        raise ConfigError(f"There is no time {time!r}; {ended(nearest_or_list(time, [*TIMES]))}")
    if not family.may_choose_time:
        raise ConfigError(
            f"A {family.class_name} says itself what time it is fed; leave out time={time!r}."
        )
    if time != "sigma" and (found := _sigma_attributes(family, model)):
        raise ConfigError(
            f"This {family.class_name} has {found[0]}, as in REPA, whose models are fed sigma, "
            f"but time={time!r}. Set time='sigma'."
        )
    return TIMES[time]


def _is_in(module: str, family: Family) -> bool:
    if family.package is None:
        return True  # NOTE: rows with a package come first in the table
    return module == family.package or module.startswith(f"{family.package}.")


def _sigma_attributes(family: Family, model: object) -> list[str]:
    return [name for name in family.sigma_attributes if hasattr(model, name)]


def _ambiguous(family: Family, model: object) -> str:
    found = _sigma_attributes(family, model)
    hint = f"It has {found[0]}, so it looks like REPA's. " if found else ""
    return (
        f"Two models are called {family.class_name}: the official one is fed 1 at the data, "
        f"REPA's 1 at the noise. {hint}Set time='sit' or time='sigma'."
    )

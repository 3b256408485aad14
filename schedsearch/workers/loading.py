"""Loads classes by import string: the only way in which the tool meets a trainer."""

from __future__ import annotations

import importlib
from typing import Any

from schedsearch.exceptions import ConfigError
from schedsearch.protocols import Trainer


def load_class(target: str, what: str) -> Any:
    """The object that ``package.module:Class`` names.

    Args:
        target: The import string.
        what: The key that holds it, for messages.

    Raises:
        ConfigError: If the module or the name cannot be found.
    """
    module_name, _, name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module that is not ours may raise anything
        raise ConfigError(
            f"{what} must be importable as package.module:Class, but {target!r} failed with "
            f"{type(error).__name__}: {error}. Install the package, or run from the folder that "
            "holds it."
        ) from error
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise ConfigError(
            f"{what}: the module {module_name!r} has no {name!r}. Check the name after the colon."
        ) from error


def load_trainer(target: str) -> Trainer:
    """Create the trainer that a search space names.

    Raises:
        ConfigError: If there is no such class, it needs arguments, or it has no ``finetune``.
    """
    create = load_class(target, "trainer")
    try:
        trainer = create()
    except Exception as error:
        raise ConfigError(
            f"trainer: {target!r} must be created without arguments, but that failed with "
            f"{type(error).__name__}: {error}. Its settings belong in recipe.extra."
        ) from error
    if not callable(getattr(trainer, "finetune", None)):
        raise ConfigError(
            f"trainer: {target!r} must have a method finetune(backbone, exits, data, process, "
            "recipe, progress, seed), see schedsearch.protocols.Trainer."
        )
    return trainer  # type: ignore[no-any-return]

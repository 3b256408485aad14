"""Checks ``package.module:Class`` without importing it: no torch, no side effects."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from schedsearch.files.problems import nearest

IMPORT_STRING = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def looks_like_import_string(text: str) -> bool:
    """Whether a name has the form ``package.module:Class``."""
    return IMPORT_STRING.fullmatch(text) is not None


def why_not_importable(text: str) -> tuple[str, str | None] | None:
    """What would keep ``package.module:Class`` from being imported.

    Args:
        text: The import string.

    Returns:
        The reason and a remedy, or None when the module is found and, where its source can
        be read, defines the class.
    """
    if not looks_like_import_string(text):
        return f"{text!r} is not of the form package.module:Class", None
    module, _, name = text.partition(":")
    spec, missing = _find(module)
    if spec is None:
        return (
            f"there is no module {missing!r}",
            "install its package, or put its folder on PYTHONPATH",
        )
    names = _defined_names(spec)
    if names is not None and name not in names:
        return f"the module {module!r} defines no {name!r}", nearest(name, names)
    return None


def _find(module: str) -> tuple[ModuleSpec | None, str]:
    """The spec of a module, or None and the part that is missing.

    ``importlib.util.find_spec`` imports the parents of a dotted name, so only the first part
    goes through it and the rest is looked up in the packages' folders.
    """
    parts = module.split(".")
    try:
        spec = importlib.util.find_spec(parts[0])
    except (ImportError, ValueError):  # ValueError: a module in memory without a spec
        spec = None
    for count in range(2, len(parts) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None, ".".join(parts[: count - 1 if spec is None else count])
        name = ".".join(parts[:count])
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec, module


def _defined_names(spec: ModuleSpec) -> set[str] | None:
    """Names at the top of a module, or None when its source cannot tell."""
    if spec.origin is None or not spec.origin.endswith(".py"):
        return None
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None  # the import will say it better, with its own traceback
    names = set(_names(tree.body))
    # A star import or a module __getattr__ may provide any name.
    return None if names & {"*", "__getattr__"} else names


def _names(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement.name
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                yield alias.asname or alias.name.partition(".")[0]
        else:
            for child in ast.walk(statement):  # assignments, also inside try and if
                if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                    yield child.id
                elif isinstance(child, ast.ClassDef | ast.FunctionDef):
                    yield child.name
                elif isinstance(child, ast.ImportFrom):
                    for alias in child.names:
                        yield alias.asname or alias.name

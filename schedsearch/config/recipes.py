"""Named recipe files: ``recipe: {base: ase_dit, num_steps: 100}``.

A base holds keys of the section ``recipe``; the keys beside ``base`` override them. The two are
merged before any check, so the settings hold every number and no base.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from schedsearch.config.paths import Paths, names_a_file
from schedsearch.exceptions import ConfigError
from schedsearch.files.content import why_not_a_file
from schedsearch.files.problems import FROM_FOLDER, Findings, KeyPath, nearest_or_list, shown
from schedsearch.files.strict_yaml import parse_document, read_limited
from schedsearch.files.validation import validate
from schedsearch.settings import RecipeSettings

RECIPE, BASE = "recipe", "base"

TRAINERS_PACKAGE = "trainers"
"""Its folder ``recipes`` holds the recipes that ship; found without importing it."""

PLACEHOLDERS = {"num_steps": 1, "batch_size": 1, "lr": 1.0}
"""Stand for required keys, which a base may lack."""


def with_recipe_base(data: Any, findings: Findings, paths: Paths) -> Any:
    """Merge the file that ``recipe.base`` names into the section.

    Args:
        data: The sections as plain data, options already applied.
        findings: Receives the mistakes; those inside the base name its file and lines.
        paths: Where a relative path starts.

    Returns:
        The sections without ``recipe.base``.
    """
    section = data.get(RECIPE) if isinstance(data, Mapping) else None
    if not isinstance(section, Mapping) or BASE not in section:
        return data
    own = {key: value for key, value in section.items() if key != BASE}
    name = section[BASE]
    before = len(findings.problems)
    base: Mapping[str, Any] = {}
    if isinstance(name, str):
        file = _find(name, findings, paths)
        if file is not None:
            base = _read(file, findings)
    elif name is not None:
        findings.add((RECIPE, BASE), f"must be the name of a recipe or a file, got {shown(name)}")
    if len(findings.problems) > before:
        base = {**PLACEHOLDERS, **base}
    return {**data, RECIPE: _merged(base, own)}


def shipped_recipes() -> dict[str, Path]:
    """The recipes that ship, by name."""
    try:
        spec = importlib.util.find_spec(TRAINERS_PACKAGE)
    except (ImportError, ValueError):  # ValueError: a module in memory without a spec
        return {}
    folders = [] if spec is None else spec.submodule_search_locations or []
    files = [file for folder in folders for file in Path(folder, "recipes").glob("*.yaml")]
    return {file.stem: file for file in sorted(files)}


def _find(name: str, findings: Findings, paths: Paths) -> Path | None:
    at: KeyPath = (RECIPE, BASE)
    if names_a_file(name):
        path = paths.absolute(at, name)
        if (reason := why_not_a_file(path)) is None:
            return path
        findings.add(at, reason, FROM_FOLDER)
        return None
    shipped = shipped_recipes()
    if name not in shipped:
        known = nearest_or_list(name, list(shipped)) if shipped else "none are installed"
        findings.add(at, f"unknown recipe {name!r}", f"{known}; your own file ends in .yaml")
    return shipped.get(name)


def _read(path: Path, findings: Findings) -> dict[str, Any]:
    """The keys of a base that are valid."""
    inside = Findings(str(path))
    try:
        document = parse_document(read_limited(path), inside)
    except ConfigError as error:
        findings.add((RECIPE, BASE), str(error).removesuffix("."))
        return {}
    # Name keys as in a search space, with the lines of the base.
    inside.marks = {(RECIPE, *key): mark for key, mark in document.marks.items()}
    inside.problems = [
        replace(problem, key=f"{RECIPE}.{problem.key}" if problem.key else "")
        for problem in inside.problems
    ]
    data = document.data
    if isinstance(data, Mapping) and BASE in data:
        inside.add((RECIPE, BASE), "a recipe file cannot have a base itself", "copy its keys")
        data = {key: value for key, value in data.items() if key != BASE}
    if isinstance(data, Mapping):
        validate(RecipeSettings, {**PLACEHOLDERS, **data}, (RECIPE,), inside)
    elif not inside.problems:
        inside.add((RECIPE,), "the recipe file must hold 'key: value' lines of the recipe")
    findings.problems.extend(inside.problems)
    wrong = {p.key.split(".")[1].partition("[")[0] for p in inside.problems if "." in p.key}
    return {k: v for k, v in data.items() if k not in wrong} if isinstance(data, Mapping) else {}


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """``own`` over ``base``; sections in both are merged key by key."""
    merged = dict(base)
    for key, value in own.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = _merged(below, value)
        merged[key] = value
    return merged

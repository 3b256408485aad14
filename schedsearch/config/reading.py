"""From a search space file to settings, or to all of its mistakes at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from schedsearch.config.backbone_rules import PACKAGE_PREFIX, check_backbone
from schedsearch.config.overrides import apply_overrides
from schedsearch.config.paths import Paths
from schedsearch.config.recipes import with_recipe_base
from schedsearch.config.rules import check_rules, without_table_seeds
from schedsearch.config.sections import validate_sections
from schedsearch.config.warm_starts import absolute_entries
from schedsearch.exceptions import ConfigError
from schedsearch.files.problems import Findings, KeyPath, nearest_or_list
from schedsearch.files.strict_yaml import Document, parse_document, read_limited
from schedsearch.settings import (
    BackboneSettings,
    DataSettings,
    DiffusionSettings,
    EvaluationSettings,
    SolverSettings,
    StudySettings,
)

SPACES_PACKAGE = "search_spaces"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """The sections that suffice to build a backbone and sample with it."""

    backbone: BackboneSettings
    diffusion: DiffusionSettings
    solver: SolverSettings
    evaluation: EvaluationSettings
    data: DataSettings | None = None
    """Says how latents become pixels. None where the section is missing or wrong, since a
    model needs no data."""


def read_settings(path_or_name: str | Path, overrides: Sequence[str] = ()) -> StudySettings:
    """Read a search space file strictly.

    Args:
        path_or_name: A file, or the name of a space that ships.
        overrides: ``KEY=VALUE`` options; their paths are relative to the current folder.

    Returns:
        The settings, every path absolute.

    Raises:
        InvalidFileError: With every mistake of the file and of the options.
        ConfigError: If there is no such file.
    """
    path = find_space(path_or_name)
    document, findings = _parse(read_limited(path), str(path), overrides)
    return _settings(document, findings, Paths(path.parent.absolute(), findings.overrides))


def settings_from_text(
    text: str, file: str = "space.yaml", *, check_disk: bool = False
) -> StudySettings:
    """Read the resolved text of :func:`dump_settings`, for example of a stored run.

    Args:
        text: YAML with absolute paths.
        file: Name for messages.
        check_disk: Also check that files and classes exist. Without it a run whose weights
            have moved can still be looked at.

    Raises:
        InvalidFileError: With every mistake.
    """
    document, findings = _parse(text, file, ())
    return _settings(document, findings, Paths(Path.cwd(), check_disk=check_disk))


def read_model_settings(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> ModelSettings:
    """Read only what building a backbone and sampling need; ignore the other sections.

    Args:
        source: A file, the name of a space that ships, or a dict: a whole file, or its
            ``backbone`` section alone. Paths in a dict start at the current folder.
        overrides: ``KEY=VALUE`` options, for example ``backbone.checkpoint=null``.

    Raises:
        InvalidFileError: With every mistake of these sections.
        ConfigError: If there is no such file.
    """
    if isinstance(source, Mapping):
        content = dict(source) if "backbone" in source else {"backbone": dict(source)}
        document, folder = Document(content), Path.cwd()
        document, origins = apply_overrides(document, overrides)
        findings = Findings("backbone settings", overrides=origins)
    else:
        path = find_space(source)
        folder = path.parent.absolute()
        document, findings = _parse(read_limited(path), str(path), overrides)
    wanted = [field.name for field in dataclasses.fields(ModelSettings) if field.name != "data"]
    # Marks of the other sections are of no interest, and neither are mistakes inside them.
    findings.problems = [
        p for p in findings.problems if not p.key or p.key.partition(".")[0] in wanted
    ]
    sections = validate_sections(document.data, findings, only=wanted)
    paths = Paths(folder, findings.overrides)
    if "backbone" in sections:
        check_backbone(sections["backbone"], findings, paths)
    findings.raise_if_any()
    data = _data_if_valid(document, paths)
    settings = ModelSettings(**sections, data=data)
    return dataclasses.replace(settings, **_absolute(settings, paths))


def _data_if_valid(document: Document, paths: Paths) -> DataSettings | None:
    if not isinstance(document.data, Mapping) or "data" not in document.data:
        return None
    valid = validate_sections(document.data, Findings("data"), only=["data"])
    return _absolute_data(valid["data"], paths) if "data" in valid else None


def read_sections(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Sections from Python, checked as those of a file; no rule reads another section.

    Raises:
        InvalidFileError: With every mistake.
    """
    findings = Findings("options")
    valid = validate_sections(sections, findings, only=list(sections))
    findings.raise_if_any()
    return valid


def find_space(path_or_name: str | Path) -> Path:
    """The file that SPACE on the command line means.

    Args:
        path_or_name: A file, or the name of a space that ships.

    Raises:
        ConfigError: If there is neither.
    """
    path = Path(path_or_name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_spaces()
    if (name := str(path_or_name)) in shipped:
        return shipped[name]
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the search space file itself.")
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        advice = f"spaces that ship: {', '.join(shipped)}"
    else:
        advice = nearest_or_list(name, list(shipped))
    raise ConfigError(f"There is no search space file {name!r}; {advice}.")


def shipped_spaces() -> dict[str, Path]:
    """The spaces that ship, by name."""
    try:
        folder = resources.files(SPACES_PACKAGE)
    except ModuleNotFoundError:
        return {}
    files = sorted(Path(str(f)) for f in folder.iterdir() if f.name.endswith(".yaml"))
    return {file.stem: file for file in files}


def _parse(content: bytes | str, file: str, overrides: Sequence[str]) -> tuple[Document, Findings]:
    findings = Findings(file)
    document = parse_document(content, findings)
    if document.data is None:
        findings.raise_if_any()  # without data there is nothing else to find
    document, origins = apply_overrides(document, overrides)
    findings.marks, findings.overrides = document.marks, origins
    # What an option replaces may have been wrong in the file.
    replaced = {".".join(map(str, path)) for path in origins}
    findings.problems = [p for p in findings.problems if p.key not in replaced]
    return document, findings


def _settings(document: Document, findings: Findings, paths: Paths) -> StudySettings:
    document = with_recipe_base(document, findings, paths)
    sections = validate_sections(document.data, findings)
    check_rules(sections, findings, paths)
    findings.raise_if_any()
    settings = StudySettings(**sections)
    return dataclasses.replace(
        settings,
        **_absolute(settings, paths),
        data=_absolute_data(settings.data, paths),
        search=without_table_seeds(settings),
        warm_start=absolute_entries(settings.warm_start, paths),
    )


def _absolute_data(data: DataSettings, paths: Paths) -> DataSettings:
    return dataclasses.replace(
        data,
        path=_absolute_or_none(("data", "path"), data.path, paths),
        vae=_absolute_or_none(("data", "vae"), data.vae, paths),
    )


def _absolute(settings: StudySettings | ModelSettings, paths: Paths) -> dict[str, Any]:
    """The sections that both kinds of settings share, with absolute paths."""
    checkpoint = settings.backbone.checkpoint
    if checkpoint is not None and not checkpoint.startswith(PACKAGE_PREFIX):
        checkpoint = _absolute_or_none(("backbone", "checkpoint"), checkpoint, paths)
    evaluation = settings.evaluation
    features = _absolute_or_none(("evaluation", "features_path"), evaluation.features_path, paths)
    auditor = _absolute_or_none(("evaluation", "auditor_path"), evaluation.auditor_path, paths)
    return {
        "backbone": dataclasses.replace(settings.backbone, checkpoint=checkpoint),
        "evaluation": dataclasses.replace(
            evaluation, features_path=features, auditor_path=auditor
        ),
    }


def _absolute_or_none(key: KeyPath, text: str | None, paths: Paths) -> str | None:
    return None if text is None else str(paths.absolute(key, text))

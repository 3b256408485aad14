"""Reads a search space file into settings, or reports all of its mistakes at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from schedsearch.config.backbone_arguments import REGISTRY
from schedsearch.config.backbone_rules import check_network, missing_class, missing_weights
from schedsearch.config.overrides import apply_overrides
from schedsearch.config.paths import Paths
from schedsearch.config.recipes import with_recipe_base
from schedsearch.config.rival_entries import RIVALS, read_rivals
from schedsearch.config.rules import check_rules
from schedsearch.config.solver_rules import trained_by_flow
from schedsearch.config.warm_starts import WARM_START, check_entries
from schedsearch.exceptions import ConfigError
from schedsearch.files.problems import Findings, nearest, nearest_or_list
from schedsearch.files.strict_yaml import Document, parse_document, read_limited
from schedsearch.files.validation import validate
from schedsearch.settings import (
    BackboneSettings,
    DataSettings,
    DiffusionSettings,
    EvaluationSettings,
    SolverSettings,
    SpaceSettings,
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
    """Turns latents into pixels; None where the section is missing or wrong."""
    space: SpaceSettings | None = None
    """Gives presets and lists of depths their intervals; None unless it has ``edges``."""


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
    return _settings(document, findings, path.parent.absolute(), check_disk=True)


def settings_from_text(text: str, file: str = "space.yaml") -> StudySettings:
    """Read the resolved text of :func:`dump_settings`, for example of a stored run.

    Its files need not exist, so a run can be read after its weights have moved.

    Args:
        text: YAML with absolute paths.
        file: Name for messages.

    Raises:
        InvalidFileError: With every mistake.
    """
    document, findings = _parse(text, file, ())
    return _settings(document, findings, Path.cwd(), check_disk=False)


def read_model_settings(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> ModelSettings:
    """Read only the sections that build a backbone and sample; ignore the others.

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
        findings = Findings("backbone settings", overrides=origins, from_here=True)
    else:
        path = find_space(source)
        folder = path.parent.absolute()
        document, findings = _parse(read_limited(path), str(path), overrides)
    wanted = ["backbone", "diffusion", "solver", "evaluation"]
    if _has_edges(document.data):
        wanted.append("space")
    if any(key[0] == "data" for key in findings.overrides):
        wanted.append("data")
    # Drop the mistakes of other sections.
    findings.problems = [
        p for p in findings.problems if not p.key or p.key.partition(".")[0] in wanted
    ]
    for key in findings.overrides:
        if key[0] not in wanted:
            remedy = nearest_or_list(key[0], [*wanted, "data"])
            findings.add(key, "not in a section that is read here", remedy)
    data = Paths(folder, findings.overrides).make_absolute(document.data)
    sections = validate_sections(data, findings, only=wanted)
    if (backbone := sections.get("backbone")) is not None:
        check_network(backbone, findings)
        findings.add_all([*missing_class(backbone), *missing_weights(backbone)])
        if "diffusion" in sections:
            findings.add_all(trained_by_flow(backbone, sections["diffusion"]))
    findings.raise_if_any()
    sections.setdefault("data", None)
    if "data" in data and "data" not in wanted:
        sections |= validate_sections(data, Findings("data"), only=["data"])
    return ModelSettings(**sections)


def _has_edges(data: Any) -> bool:
    space = data.get("space") if isinstance(data, Mapping) else None
    return isinstance(space, Mapping) and "edges" in space


def read_sections(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Check sections from Python like those of a file, each on its own.

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
    # NOTE: stems decide, since equal endings make any two names similar.
    beside = [f.name for f in path.parent.glob("*.y*ml") if nearest(path.stem, [f.stem])]
    similar = nearest(path.stem, shipped) or nearest(path.name, beside)
    raise ConfigError(
        f"There is no search space file {name!r}{f'; {similar}' if similar else '.'} Spaces that "
        f"ship: {', '.join(shipped)}."
    )


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
    # Drop the mistakes that an option repairs.
    findings.drop_under(origins)
    return document, findings


def _settings(
    document: Document, findings: Findings, folder: Path, *, check_disk: bool
) -> StudySettings:
    paths = Paths(folder, findings.overrides)
    data = paths.make_absolute(with_recipe_base(document.data, findings, paths))
    sections = validate_sections(_without_table_seeds(data), findings)
    check_rules(sections, findings, check_disk=check_disk)
    findings.raise_if_any()
    return StudySettings(**sections)


def _without_table_seeds(data: Any) -> Any:
    """Default ``dp_seeds`` to 0 where there is no error table."""
    if not isinstance(data, Mapping) or data.get("profile", ...) is not None:
        return data
    search = data.get("search")
    return {**data, "search": {"dp_seeds": 0, **search}} if isinstance(search, Mapping) else data


def validate_sections(
    data: Any, findings: Findings, only: Iterable[str] | None = None
) -> dict[str, Any]:
    """Validate the sections one by one, so that no mistake hides another.

    Args:
        data: The file as plain data.
        findings: Receives the mistakes.
        only: Sections to read; the others are then ignored, known or not. None reads all.

    Returns:
        The sections without a mistake, by name, defaults filled in.
    """
    if not isinstance(data, Mapping):
        remedy = "the file is empty" if data is None else None
        findings.add((), "the file must hold sections ('key: value' lines)", remedy)
        return {}
    hints = _section_types()
    if only is None:
        for key in (key for key in data if key not in hints):
            findings.add((key,), "unknown key", nearest_or_list(key, list(hints)))
    valid: dict[str, Any] = {}
    for field in dataclasses.fields(StudySettings):
        name = field.name
        if only is not None and name not in only:
            continue
        if name == RIVALS:
            valid[name] = read_rivals(data.get(name), findings)
        elif name not in data and field.default is dataclasses.MISSING:
            findings.add((name,), "required key is missing", None)
        elif name not in data:
            valid[name] = _default_of(field, valid)
        elif name != WARM_START or check_entries(data[name], findings):
            ok, value = validate(hints[name], data[name], (name,), findings)
            if ok:
                valid[name] = value
    return valid


def _default_of(field: dataclasses.Field[Any], valid: Mapping[str, Any]) -> Any:
    """The default of a section; for a SiT, ``diffusion`` is flow matching."""
    backbone: BackboneSettings | None = valid.get("backbone")
    if field.name == "diffusion" and backbone is not None:
        family, _ = REGISTRY.get(backbone.name or "", (backbone.family, {}))
        if family == "sit":
            return DiffusionSettings(process="flow", time="sit")
    return field.default


@lru_cache(maxsize=1)
def _section_types() -> dict[str, Any]:
    return get_type_hints(StudySettings, include_extras=True)

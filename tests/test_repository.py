"""What ships with the code tells the truth: search spaces, README, package data, changelog."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shlex
import struct
import subprocess
from importlib import resources
from pathlib import Path

import pytest

import schedsearch
from schedsearch.cli.main import COMMANDS, _build_parser
from schedsearch.config import read_settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "schedsearch" / "README.md",
    ROOT / "search_spaces" / "README.md",
    ROOT / "trainers" / "README.md",
    ROOT / "benchmarks" / "README.md",
]
MOST_README_LINES = 200
MOST_MODULES = 14
LONG_SENTENCE = 28
"""Words that nine of ten sentences of a page do not exceed."""
SPACES = sorted((ROOT / "search_spaces").glob("*.yaml"))


def tracked_files() -> list[Path]:
    """Files that git knows or would add; skips outside a checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [file for file in files if file.is_file()]


# ---- search spaces and package data -----------------------------------------------------------


def test_the_space_of_the_demo_needs_nothing_else():
    from schedsearch.backbones.weights.checkpoint import load_backbone_from

    settings = read_settings("digits_dit")
    net = load_backbone_from(settings.backbone)
    assert net.num_exit_blocks >= settings.space.max_depth


@pytest.mark.parametrize("file", SPACES, ids=lambda file: file.stem)
def test_a_search_space_says_how_to_run_it_and_what_it_costs(file):
    head = file.read_text(encoding="utf-8").partition("name:")[0]
    assert f"schedsearch run {file.stem}" in head
    assert "Cost:" in head


def test_the_folder_holds_the_spaces_that_are_installed():
    from schedsearch.config import shipped_spaces

    assert {file.stem for file in SPACES} == set(shipped_spaces())
    assert "digits_dit" in shipped_spaces()


@pytest.mark.parametrize("package", ["schedsearch", "trainers"])
def test_a_package_is_typed(package):
    assert (resources.files(package) / "py.typed").is_file()


def test_weights_carry_the_command_that_made_them_and_no_path_of_a_machine():
    files = sorted((ROOT / "schedsearch" / "pretrained").glob("*.safetensors"))
    assert files
    for file in files:
        with file.open("rb") as handle:
            (size,) = struct.unpack("<Q", handle.read(8))
            metadata = json.loads(handle.read(size))["__metadata__"]
        text = json.dumps(metadata)
        assert "python -m trainers." in text, file.name
        assert not re.search(r"[\s=\"']/\w", text), f"{file.name} holds an absolute path"


def test_no_file_holds_a_path_of_a_machine():
    pattern = re.compile(r"(?<![\w.:])/(?:home|Users|root|work)/\w")
    allowed = {
        ROOT / "tests" / "schedules" / "test_schedule_file.py"
    }  # tests that such paths are refused
    found = []
    for file in set(tracked_files()) - allowed:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # weights
        found += [f"{file.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert not found


# ---- changelog and Makefile -------------------------------------------------------------------


def test_the_newest_release_of_the_changelog_is_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", text, flags=re.MULTILINE)
    assert headings
    released = [heading for heading in headings if heading != "Unreleased"]
    assert released[:1] in ([], [schedsearch.__version__])


def makefile_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):.*## ", text, flags=re.MULTILINE))


def test_the_makefile_has_the_promised_targets():
    assert {"help", "install", "demo", "test", "lint", "format"} <= makefile_targets()


def test_constraints_name_every_direct_dependency():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"]
    for extra in project["optional-dependencies"].values():
        wanted = wanted + extra
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+", pin) for pin in pins)  # no local versions, URLs
    pinned = {normal(pin) for pin in pins}
    assert {normal(name) for name in wanted} - {"schedsearch"} <= pinned


def normal(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


# ---- README -----------------------------------------------------------------------------------


def readme_commands() -> list[list[str]]:
    """The words of every command line in a bash block of the pages."""
    commands = []
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                if words := shlex.split(part, comments=True):
                    commands.append(words)
    return commands


COMMAND_LINES = readme_commands()


def of_program(name: str) -> list[list[str]]:
    return [words[1:] for words in COMMAND_LINES if words[0].removeprefix(".venv/bin/") == name]


@pytest.mark.parametrize("words", of_program("schedsearch"), ids=" ".join)
def test_a_schedsearch_command_of_the_readme_parses(words):
    if {"--help", "--version"} & set(words):
        with pytest.raises(SystemExit, match="0"):
            _build_parser(words).parse_args(words)
        return
    assert _build_parser(words).parse_args(words).command == words[0]


@pytest.mark.parametrize("words", of_program("make"), ids=" ".join)
def test_a_make_target_of_the_readme_exists(words):
    assert {word for word in words if "=" not in word} <= makefile_targets()


@pytest.mark.parametrize("words", of_program("python"), ids=" ".join)
def test_a_python_command_of_the_readme_exists(words):
    if words[0] == "-m" and words[1] in {"venv", "pip", "pytest"}:
        return
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    if words[0] == "-m":
        module = importlib.import_module(words[1])
        file = Path(module.__file__)
        program = file.with_name("__main__.py") if file.name == "__init__.py" else file
        source = program.read_text(encoding="utf-8")
        if hasattr(module, "build_parser"):
            parser: argparse.ArgumentParser = module.build_parser()
            parser.parse_args(words[2:])
            return  # its flags may stand in another module
    else:
        source = (ROOT / words[0]).read_text(encoding="utf-8")
    assert all(f'"{option}"' in source for option in options)


def test_the_readme_shows_every_command():
    shown = {words[0] for words in of_program("schedsearch")}
    assert {command.name for command in COMMANDS} <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_file_that_the_readme_names_exists(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    folders = r"schedsearch|trainers|search_spaces|tests|examples|benchmarks|\.ci"
    paths = re.findall(rf"`((?:{folders})/[\w./-]+)`", text)
    assert links
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing + [path for path in paths if not (ROOT / path).exists()]


def test_the_readme_is_short():
    assert len(README.splitlines()) <= MOST_README_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_sentences_are_short(page):
    lengths = sorted(len(sentence.split()) for sentence in sentences_of(page))
    assert lengths[int(0.9 * (len(lengths) - 1))] <= LONG_SENTENCE


def sentences_of(page: Path) -> list[str]:
    """Sentences of the prose: no code, tables, headings or link targets."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    prose = [line for line in text.splitlines() if not line.lstrip().startswith(("|", "#", "!"))]
    text = re.sub(r"\]\([^)]*\)", "]", "\n".join(prose))
    paragraphs = re.split(r"\n\s*(?:\n|[*-] |\d+\. )", text)
    joined = [" ".join(paragraph.split()) for paragraph in paragraphs]
    return [s for p in joined for s in re.split(r"(?<=[.!?])\s+", p) if s]


def test_no_folder_holds_too_many_modules():
    folders = {
        file.parent
        for name in ("schedsearch", "trainers")
        for file in ROOT.glob(f"{name}/**/*.py")
    }
    counts = {
        str(folder.relative_to(ROOT)): len(set(folder.glob("*.py")) - {folder / "__init__.py"})
        for folder in folders
    }
    assert {name: count for name, count in counts.items() if count > MOST_MODULES} == {}


def test_every_key_is_explained_as_in_the_settings():
    from key_reference import page_with, render

    page = ROOT / "search_spaces" / "README.md"
    assert page.read_text(encoding="utf-8") == page_with(render())


def test_the_readme_names_every_search_space_and_exit_code():
    from schedsearch.exceptions import ExitCode

    assert all(f"`{file.stem}`" in README for file in SPACES)
    assert all(f"| {int(code)} |" in README for code in ExitCode)

"""Index, notebook and result pages: their commands, links and lengths."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from schedsearch.cli.main import _build_parser

ROOT = Path(__file__).resolve().parents[2]
INDEX = ROOT / "benchmarks" / "README.md"
LOG = ROOT / "benchmarks" / "LOG.md"
PAGES = [INDEX, LOG, *sorted((ROOT / "benchmarks" / "results").glob("*.md"))]


def commands() -> list[str]:
    """Commands of all pages, in bash blocks and between backticks."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL):
            found += block.splitlines()
        found += re.findall(r"`((?:python|schedsearch) [^`\n]+)`", text)
    return sorted(set(found))


@pytest.mark.parametrize("command", commands())
def test_a_command_of_a_page_parses(command):
    program, *words = shlex.split(command)
    if program == "schedsearch":
        _build_parser(words).parse_args(words)
    elif words[0] == "-m":
        module = importlib.import_module(words[1])
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"{words[1]}.__main__")
        module.build_parser().parse_args(words[2:])
    else:
        source = (ROOT / words[0]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in source for word in words[1:] if word.startswith("--"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_of_a_page_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    assert not [link for link in links if not (page.parent / link).exists()]


def test_every_result_is_in_the_index():
    pages = (ROOT / "benchmarks" / "results").glob("*.md")
    text = INDEX.read_text(encoding="utf-8")
    assert not [page.name for page in pages if f"results/{page.name}" not in text]


def test_every_benchmark_is_in_the_index():
    text = INDEX.read_text(encoding="utf-8")
    for name in ("schedulebench", "paper_analyses", "paper_tables"):
        assert f"`python -m benchmarks.{name}" in text


def test_the_index_and_the_notebook_stay_short():
    assert len(INDEX.read_text(encoding="utf-8").splitlines()) <= 60

"""Classes in the current folder, which the console script would not see by itself."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

import pytest

SCRIPT = Path(sysconfig.get_path("scripts")) / "schedsearch"

# What pip knows, not whether the script exists, or its loss would be a skip. A checkout that is
# only on the path may have an egg-info, but not in the environment's own folder.
INSTALLED = any(distributions(name="schedsearch", path=[sysconfig.get_path("purelib")]))

pytestmark = pytest.mark.skipif(not INSTALLED, reason="the package is not installed")


def check_space(
    folder: Path, module: str = "my_lab", **environment: str
) -> subprocess.CompletedProcess[str]:
    (folder / f"{module}.py").write_text("class MyTrainer: ...\n")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [SCRIPT, "check", "digits_dit", "-o", "trainer=my_lab:MyTrainer"],
        cwd=folder,
        env=env | environment,
        capture_output=True,
        text=True,
    )


def test_the_script_finds_a_module_in_the_current_folder(tmp_path):
    done = check_space(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "digits_dit.yaml is valid" in done.stdout
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert "there is no module 'my_lab'" in check_space(elsewhere, module="other").stderr


def test_a_file_there_cannot_replace_an_installed_module(tmp_path):
    (tmp_path / "pydantic.py").write_text("raise SystemExit('shadowed')\n")
    done = check_space(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "shadowed" not in done.stderr
    assert "digits_dit.yaml is valid" in done.stdout


def test_a_safe_path_stays_safe(tmp_path):
    done = check_space(tmp_path, PYTHONSAFEPATH="1")
    assert done.returncode == 2
    assert "there is no module 'my_lab'" in done.stderr

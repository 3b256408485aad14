"""What ``import schedsearch`` offers, and what it costs."""

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import schedsearch

HEAVY = (
    *("torch", "ray", "optuna", "timm", "numpy", "pydantic", "rich", "sklearn"),
    *("diffusers", "transformers", "accelerate", "peft"),
)


def test_import_is_light() -> None:
    code = f"import schedsearch, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_families_are_data_without_torch() -> None:
    code = (
        "import sys, schedsearch.families.table, schedsearch.families.recognise; "
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_enabling_needs_no_extra() -> None:
    extra = ("diffusers", "transformers", "accelerate", "peft")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({extra})); "  # importing one would fail
        "import schedsearch; print(schedsearch.enable.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "enable"


def test_reading_settings_needs_no_torch() -> None:
    heavy = ("torch", "ray", "optuna", "timm", "rich")
    code = (
        "import sys, schedsearch.config as c; "
        "c.settings_from_text(c.dump_settings(c.read_settings('digits_dit'))); "
        "import schedsearch; schedsearch.presets, schedsearch.load_schedule; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", schedsearch.__all__)
def test_public_names_stay_what_they_are(name: str) -> None:
    # A module of the same name would take the name's place once it is imported.
    first = getattr(schedsearch, name)
    for module in ("schedules", "schedules.hand_made", "schedules.schedule_file", "sampling_api"):
        importlib.import_module(f"schedsearch.{module}")
    second = getattr(schedsearch, name)
    assert first is second
    assert not isinstance(second, ModuleType)


def test_no_module_carries_a_public_name() -> None:
    modules = {module.name for module in pkgutil.iter_modules(schedsearch.__path__)}
    assert not modules & set(schedsearch.__all__)


def test_packages_hide_no_public_name_behind_a_module() -> None:
    for package in ("config", "backbones", "diffusion", "data", "evaluation", "search", "report"):
        module = importlib.import_module(f"schedsearch.{package}")
        names = set(getattr(module, "__all__", ()))
        assert not names & {m.name for m in pkgutil.iter_modules(module.__path__)}, package


def test_unknown_names_raise() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = schedsearch.nothing
    assert set(schedsearch.__all__) <= set(dir(schedsearch))

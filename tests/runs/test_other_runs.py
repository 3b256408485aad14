"""Files that belong elsewhere: of another run, moved inside a file, or gone."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flips import command, shown
from safetensors.torch import load_file, save_file
from tiny_runs import run_cli

from schedsearch.backbones.weights.checkpoint import metadata_of
from schedsearch.files.checksums import opened, opened_yaml, place_of, sealed, sealed_yaml
from schedsearch.runs.checks.identity import run_id_of
from schedsearch.runs.folder import RunFolder

OTHER = "0123456789abcdef"


def moved(path: Path) -> None:
    """Make a file what another run would have written there."""
    text = "" if path.suffix == ".safetensors" else path.read_text()
    run = run_id_of(RunFolder(next(p for p in path.parents if (p / "run.json").is_file())))
    assert run is not None

    def place(piece: str) -> str:
        assert place_of(piece).startswith(run)
        return place_of(piece).replace(run, OTHER)

    if path.suffix == ".safetensors":
        save_file(load_file(path), path, {**metadata_of(path), "run": OTHER})
    elif path.suffix == ".yaml":
        path.write_text(sealed_yaml(opened_yaml(text), place(text)))
    elif path.name == "run.json":
        path.write_text(sealed(opened(text).replace(run, OTHER)))
    elif path.suffix == ".json":
        path.write_text(sealed(opened(text), place(text)))
    else:
        lines = [sealed(opened(line), place(line)) for line in text.splitlines()]
        path.write_text("".join(line + "\n" for line in lines))


def lines_of(act: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(b"".join(act(path.read_bytes().splitlines(True))))


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("results.jsonl", moved, "results.jsonl:1: .*belongs to"),
        ("confirmation.jsonl", moved, "confirmation.jsonl:1: .*belongs to"),
        ("latency.json", moved, "latency.json: it belongs to"),
        ("space.yaml", moved, "space.yaml:1: .*belongs to"),
        ("run.json", moved, "space.yaml:1: .*belongs to"),
        ("confirmation.jsonl", lines_of(lambda own: own[::-1]), "l:2: .*stands after line"),
        ("results.jsonl", lines_of(lambda own: [own[1], own[0], *own[2:]]), "l:2: .*after line 2"),
        ("results.jsonl", lines_of(lambda own: [*own[:-1], own[0]]), "l:7: .*after line 6"),
        ("latency.json", Path.unlink, "latency.json is gone.*measured again"),
    ],
)
def test_it_is_refused_by_name(
    run_copy: Path, name: str, damage: Callable[[Path], object], reason: str
) -> None:
    damage(run_copy / name)
    for words in (("front", "--format", "json"), ("status",)):
        done = run_cli(words[0], run_copy, *words[1:])
        assert (done.code, done.out) == (5, "")
        assert re.search(reason, done.err), done.err
        assert done.err.count("\n") == 1


@pytest.mark.parametrize("name", ["schedule.yaml", "ema.safetensors"])
def test_files_of_a_trial_are_not_exported(run_copy: Path, name: str) -> None:
    words = ("export", run_copy, "--trial", 1, "-o", run_copy.parent / "x.yaml")
    assert run_cli(*words).code == 0
    moved(run_copy / "trials/0001" / name)
    done = run_cli(*words)
    assert done.code in (2, 5)
    assert re.search(rf"{name}.*(belongs to|made by) {OTHER}", done.err), done.err


def test_without_its_identity_a_run_is_known_by_its_files(run_copy: Path) -> None:
    before, run = shown(run_copy), run_id_of(RunFolder(run_copy))
    (run_copy / "run.json").unlink()
    assert run_id_of(RunFolder(run_copy)) == run
    assert shown(run_copy) == before
    (run_copy / "space.yaml").write_text((run_copy / "space.yaml").read_text().partition("\n")[2])
    assert run_id_of(RunFolder(run_copy)) == run
    confirmations = run_copy / "confirmation.jsonl"
    confirmations.write_text(confirmations.read_text().replace(str(run), OTHER))
    assert command(run_copy, ("front",))[0] == 5

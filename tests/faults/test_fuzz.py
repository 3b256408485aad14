"""Damaged files are read, or refused by name within two CPU-seconds; nothing else happens.

``make fuzz`` tries 10,000 cases; the test suite tries 300, always the same ones.
"""

import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from damage import BYTES_OPS, VALUE_OPS, Step, steps
from fuzz_targets import TARGETS, RefusedError, Target
from hypothesis import HealthCheck, Phase, given, settings

IN_SUITE = 300
CASES = int(os.environ.get("FUZZ_CASES", IN_SUITE))
SECONDS = 2.0

WHOLE_FILE = "has .* bytes|file is empty|must hold sections|not a schedule file"
"""Mistakes that have no line, since they are those of a whole file."""


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_damaged_file_is_read_or_refused_by_name(target: Target, tmp_path: Path) -> None:
    path = tmp_path / target.name
    path.parent.mkdir(parents=True, exist_ok=True)
    target.prepare(tmp_path / "run")
    counts, slowest = Counter[str](), 0.0

    @settings(
        max_examples=-(-CASES // len(TARGETS)),
        deadline=None,
        database=None,
        derandomize=CASES == IN_SUITE,
        phases=[Phase.generate],  # cases are small as they are
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(values=steps(VALUE_OPS), raw=steps(BYTES_OPS, 2) | steps(("empty",), 1))
    def check(values: list[Step], raw: list[Step]) -> None:
        nonlocal slowest
        path.write_bytes(target.make(values, raw))
        began = time.process_time()
        try:
            target.read(path)
            counts["read"] += 1
        except (*target.refusals, RefusedError) as error:
            counts["refused"] += 1
            message = str(error)
            assert path.name in message
            if target.has_lines and not re.search(WHOLE_FILE, message):
                assert re.search(rf"{re.escape(path.name)}:\d+", message), message
            assert "Traceback" not in message
        slowest = max(slowest, time.process_time() - began)
        assert time.process_time() - began < SECONDS

    check()
    print(f"{target.name}: {dict(counts)}, slowest {slowest:.2f} CPU-seconds")

"""Ways to damage a file: its bytes, its lines, and the values that it holds."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

from schedsearch.files.checksums import sealed


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"),
    float("-inf"), 10**30, 10**400, -(10**4000), "", " ", "1", "nan", "1e5", "yes", "\x00",
    "\x1b]0;owned\x07", "\ud800", "\u202egnp.exe", "\U0010ffff", "a" * 100_000, "../../x", "~/x",
    "/dev/zero", "C:\\x", "x:y", "[red]", "sqlite:///x", [], {}, [None], [[]], [1] * 1000,
    [float("nan")], ["a", 1], {"": None}, {"a": {"b": []}}, nested(30), nested(480),
    nested(900),
)  # fmt: skip
"""Values that a reader may meet in place of a good one."""

PIECES = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3", b"\r", b"\x85",
    b"\xe2\x80\xa8", b"\x1b[2J", b"\n", b"\n\n---\n", b"\t", b": ", b"? ", b"- ", b"'", b'"', b"#",
    b"|", b">", b"!!python/object/apply:os.system ['x']", b"&a [*a]", b"*a", b"<<: {a: 1}",
    b"%YAML 9.9\n---\n", b'"\\UFFFFFFFF"', b'"\\ud800"', b"1" * 5000, b"0x" + b"f" * 4000,
    b"1e999", b"NaN", b"-Infinity", b"2026-01-01", b"{", b"}", b"[" * 2000, b"{" * 2000,
    b"- " * 2000,
    b"[[" * 50_000, b"a: 1\n" * 20_000, b"\xf0\x9f\x98\x80",
)  # fmt: skip
"""Bytes that come between others."""

BYTES_OPS = ("flip", "insert", "overwrite", "delete", "cut", "again", "swap", "drop", "empty")

VALUE_OPS = ("replace", "replace", "remove", "rename", "repeat", "wrap", "swap")

Step = tuple[str, int, int]
"""What is done, where, and with which value."""


def steps(ops: tuple[str, ...], most: int = 3) -> st.SearchStrategy[list[Step]]:
    """A few steps of damage."""
    number = st.integers(0, 2**32 - 1)
    return st.lists(st.tuples(st.sampled_from(ops), number, number), min_size=1, max_size=most)


def damaged_bytes(content: bytes, damage: list[Step]) -> bytes:
    """Content after steps of ``BYTES_OPS``."""
    for op, place, number in damage:
        lines = content.splitlines(keepends=True) or [b""]
        at, line = place % (len(content) + 1), place % len(lines)
        piece, size = PIECES[number % len(PIECES)], number % 64
        if op == "flip" and content:
            at %= len(content)
            flipped = bytes([content[at] ^ 1 << number % 8])
            content = content[:at] + flipped + content[at + 1 :]
        elif op == "insert":
            content = content[:at] + piece + content[at:]
        elif op == "overwrite":
            content = content[:at] + piece + content[at + len(piece) :]
        elif op == "delete":
            content = content[:at] + content[at + size :]
        elif op == "cut":
            content = content[:at]
        elif op == "again":
            content = b"".join([*lines[: line + 1], *lines[line : line + 1 + size]])
        elif op == "swap":
            lines[line], lines[-1] = lines[-1], lines[line]
            content = b"".join(lines)
        elif op == "drop":
            content = b"".join(lines[:line] + lines[line + 1 :])
        elif op == "empty":
            content = b"" if number % 8 == 0 else content
    return content


def damaged_value(data: Any, damage: list[Step], values: tuple[Any, ...] = VALUES) -> Any:
    """Data after steps of ``VALUE_OPS``."""
    root = [copy.deepcopy(data)]
    for op, place, number in damage:
        places = list(_places(root))
        box, key = places[place % len(places)]
        other_box, other_key = places[number % len(places)]
        value = copy.deepcopy(values[number % len(values)])
        if op == "replace":
            box[key] = value
        elif op == "wrap":
            box[key] = [box[key]] if number % 2 else {"a": box[key]}
        elif op == "swap":
            box[key] = copy.deepcopy(other_box[other_key])
        elif box is root:
            continue
        elif op == "remove":
            del box[key]
        elif op == "repeat" and isinstance(box, list):
            box.extend([copy.deepcopy(box[key])] * (1 + number % 20))
        elif op in ("rename", "repeat") and isinstance(box, dict):
            name = value if isinstance(value, str | int | float | None) else "other"
            box[name] = copy.deepcopy(box[key]) if op == "repeat" else box.pop(key)
    return root[0]


def _places(box: Any) -> Any:
    """Every value, as its container and key."""
    for key in range(len(box)) if isinstance(box, list) else list(box):
        yield box, key
        if isinstance(box[key], list | dict) and len(str(box[key])) < 50_000:
            yield from _places(box[key])


def json_line(data: Any) -> str:
    """A line with a checksum that is right, so that what it says is looked at."""
    return _sealed(_json(data, None))


def json_document(data: Any) -> str:
    """A file with a checksum that is right."""
    return _sealed(_json(data, 1) + "\n")


def _json(data: Any, indent: int | None) -> str:
    separators = (",", ":") if indent is None else None
    return json.dumps(data, indent=indent, separators=separators)


def _sealed(text: str) -> str:
    try:
        return sealed(text)
    except ValueError:  # no object with keys
        return text

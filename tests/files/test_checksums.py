"""Checksums inside files: any change is found."""

import json

import pytest

from schedsearch.files.checksums import (
    KEY,
    has_seal,
    holds_whole_line,
    opened,
    opened_yaml,
    sealed,
    sealed_yaml,
)

DATA = {"number": 3, "name": "a \u00e9 \ud800", "parts": [1.5, {"deep": None}]}
LINE = json.dumps(DATA)
DOCUMENT = json.dumps(DATA, indent=1) + "\n"


@pytest.mark.parametrize("text", [LINE, DOCUMENT], ids=["line", "document"])
def test_the_checksum_is_one_more_key(text: str) -> None:
    kept = sealed(text)
    assert list(json.loads(kept)) == [*DATA, KEY]
    assert opened(kept) == text
    assert sealed(kept) == kept
    assert has_seal(kept)
    assert not has_seal(text)
    with pytest.raises(ValueError, match="it has no checksum"):
        opened(text)


@pytest.mark.parametrize("text", [LINE, DOCUMENT], ids=["line", "document"])
def test_every_flipped_bit_is_found(text: str) -> None:
    content = sealed(text).encode()
    for at in range(len(content)):
        for bit in range(8):
            damaged = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
            with pytest.raises(ValueError, match=r"checksum|utf-8"):
                opened(damaged.decode())


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", '{"a": 1'])
def test_what_takes_no_checksum(text: str) -> None:
    with pytest.raises(ValueError, match="Only a JSON object"):
        sealed(text)


def test_a_yaml_file_carries_it_in_its_first_line() -> None:
    text = "name: a\nnumber: 3\n"
    kept = sealed_yaml(text)
    assert kept.startswith("# checksum: ")
    assert opened_yaml(kept) == text
    assert opened_yaml(text) == text
    with pytest.raises(ValueError, match="does not match its checksum"):
        opened_yaml(kept.replace("3", "4"))


def test_a_whole_line_with_a_damaged_end_is_no_torn_one() -> None:
    line = sealed('{"number":3}').encode()
    assert holds_whole_line(line + b"\x0b")
    assert not holds_whole_line(line[:-1])

"""Reads search space files strictly, with line numbers; imports neither torch nor Ray.

What a file may say, and the rules between its sections. The keys and the rules of one section are
in ``settings``; reading YAML is in ``files``. Read first: ``reading``, ``rules``.
"""

from schedsearch.config.backbone_rules import num_exit_blocks_of
from schedsearch.config.reading import (
    ModelSettings,
    find_space,
    read_model_settings,
    read_sections,
    read_settings,
    settings_from_text,
    shipped_spaces,
)
from schedsearch.config.writing import differing_keys, dump_settings
from schedsearch.files.problems import Findings, InvalidFileError, Problem

__all__ = [
    "Findings",
    "InvalidFileError",
    "ModelSettings",
    "Problem",
    "differing_keys",
    "dump_settings",
    "find_space",
    "num_exit_blocks_of",
    "read_model_settings",
    "read_sections",
    "read_settings",
    "settings_from_text",
    "shipped_spaces",
]

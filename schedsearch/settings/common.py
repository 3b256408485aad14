"""Types that several sections share."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from schedsearch.files.problems import shown
from schedsearch.files.validation import RuleError

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Prediction = Literal["eps", "v", "x0", "velocity"]
Process = Literal["ddpm", "vp", "flow"]
NetworkTime = Literal["sigma", "sigma1000", "sit"]


def _check_run_name(name: str) -> str:
    # A run's name becomes a folder and a study name: nothing that a path or a shell could read.
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) is None:
        remedy = "use up to 100 letters, digits, '.', '_' and '-'; begin with a letter or digit"
        raise RuleError(("", f"{shown(name)} cannot name a run", remedy))
    return name


RunName = Annotated[str, AfterValidator(_check_run_name)]

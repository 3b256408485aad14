"""Numbers for people: as many decimals as their size deserves, titles, durations.

FID has a scale per extractor: below 1 for the digits CNN, thousands for a LeNet's features.
"""

from __future__ import annotations

import shlex

_HUGE = 1e5


def decimals(value: float, most: int) -> int:
    """Decimals that leave about four digits, at most ``most``: 0.512, 12.34, 274.1, 3079."""
    for power in range(1, most + 1):
        if abs(value) < 10**power:
            return most + 1 - power
    return 0


def rounded(value: float, *, sign: bool = False, most: int = 3) -> str:
    """A value; of a huge one three digits and a power of ten."""
    if abs(value) >= _HUGE:
        return f"{value:{'+' if sign else ''}.3g}"
    return f"{value:{'+' if sign else ''}.{decimals(value, most)}f}"


def plus_minus(mean: float, half_width: float, *, sign: bool = False) -> str:
    """A value and half of its interval, with the decimals of the larger."""
    largest = max(abs(mean), abs(half_width))
    if largest >= _HUGE:
        return f"{rounded(mean, sign=sign)} ± {half_width:.2g}"
    digits = decimals(largest, 3)
    return f"{mean:{'+' if sign else ''}.{digits}f} ± {half_width:.{digits}f}"


def fid_title(features: str, num_samples: int) -> str:
    """How an FID is called: extractor and number of images belong to the value."""
    return f"FID ({features}, n={num_samples})"


def duration(seconds: float) -> str:
    """A time for people: ``8.3 s``, ``4 min 05 s``, ``2 h 10 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def for_shell(path: object) -> str:
    """A path as one word of a command that can be pasted."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)

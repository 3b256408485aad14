"""Where the driver's libraries log: a file of the run, never the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna

from schedsearch.files.printable import PrintableFormatter

_NAMES = ("schedsearch", "optuna", "py.warnings")
"""Ray clears its loggers when it starts, so :func:`ray_logs_to` looks after those."""


def file_handler(path: Path) -> logging.FileHandler:
    """Lines with time, level and logger."""
    handler = logging.FileHandler(path)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    return handler


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send what Optuna, warnings and this package log to one file while the block runs."""
    handler = file_handler(path)
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    logging.captureWarnings(True)
    for name in _NAMES:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for name in _NAMES:
            logger = logging.getLogger(name)
            logger.removeHandler(handler)
            logger.propagate = True
        handler.close()


def ray_logs_to(path: Path) -> None:
    """Send what Ray logs to a file and nothing of it to the terminal."""
    for name in list(logging.root.manager.loggerDict):
        if name == "ray" or name.startswith("ray."):
            logger = logging.getLogger(name)
            for old in list(logger.handlers):
                logger.removeHandler(old)
            logger.propagate = name != "ray"
    # It misses result files, which are switched off above.
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)
    ray_logger = logging.getLogger("ray")
    ray_logger.addHandler(file_handler(path))
    ray_logger.propagate = False

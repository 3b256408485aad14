"""Measurements: FID, KID, latency, FLOPs and the error table.

The tool measures; a trainer never does. Everything that turns a network and a schedule into
numbers belongs here, statistics over several numbers in ``statistics``. Read first:
``quality.py`` (one FID), ``sampling.py``, ``latency_rounds.py``.
"""

"""Optuna samplers that propose the next schedule, and their registry.

A proposer sees the study and proposes one schedule; it measures and stores nothing. The
mathematics behind it is in ``planning``. Read first: ``additive.py`` (the default),
``registry.py``.
"""

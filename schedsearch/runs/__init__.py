"""What a run folder contains, and reading it. No Optuna and no Ray.

Read first: ``folder.py`` (where things lie), ``results.py``, ``comparison.py``.
"""

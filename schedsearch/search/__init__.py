"""The driver of a run: the order of its stages, its Optuna study, and its runners.

What runs in a worker process is in ``workers``, what lies in a run folder in ``runs``. Read first:
``campaign.py`` (a whole run), ``run_stages.py``, ``study/study.py``, ``runners/contracts.py``.
"""

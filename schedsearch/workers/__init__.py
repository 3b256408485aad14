"""What runs inside a worker process: a job in, an outcome out.

Nothing here knows the Optuna study or Ray. Read first: ``jobs.py``, ``trial.py``.
"""

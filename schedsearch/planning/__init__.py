"""Planning on tables: error tables, dynamic programming, the surrogate of FID.

Mathematics over schedules belongs here, without networks, Optuna or files of a run. Measuring an
error table is in ``evaluation``; proposing the next schedule is in ``proposers``. Read first:
``error_table.py``, ``dynamic_programming.py``, ``surrogate.py``.
"""

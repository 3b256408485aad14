"""Exit schedules: the type, the space of schedules, presets, schedule files.

Everything that needs no network belongs here; running a schedule is in ``backbones``, choosing
one in ``planning`` and ``proposers``. Read first: ``exit_schedule.py``, ``space.py``,
``hand_made.py``.
"""

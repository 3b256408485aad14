"""Applying an exit schedule to a model that people run: ``enable``, ``disable``, ``summary``.

Here belongs what touches a live model: the view on its block list, hooks, the time read from a
call. What differs between models is data in ``schedsearch.families``.

Read first: ``view.py``, ``attachment.py``.
"""

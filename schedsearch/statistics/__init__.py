"""How sure a result is: means, paired differences and 95 % t intervals.

Read first: ``intervals.py``, ``paired.py``.
"""

"""Families of models that a schedule applies to, as plain data without torch.

Here belongs what differs between models: block lists, the argument with the time, the clock. Code
that runs a model belongs into ``schedsearch.apply``.

Read first: ``table.py``.
"""

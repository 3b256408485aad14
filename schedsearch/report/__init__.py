"""What people see: the live view, the final tables and sentences, and pictures.

Reads ``runs`` and changes nothing. Read first: ``final.py``, ``tables.py``, ``plots.py``.
"""

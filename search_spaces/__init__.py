"""Shipped search spaces, one YAML file each, for ``schedsearch run NAME``.

Only search spaces belong here; code and weights do not. ``README.md`` explains the files and
every key. Read first: ``digits_dit.yaml``.
"""

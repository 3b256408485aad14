"""Pretrains small backbones and feature extractors.

``dit``, ``uvit``, ``digits_cnn`` and ``auditor`` are commands (``python -m``). Fine-tuning for a
schedule does not belong here; it is in ``trainers/ase.py``. Read first: ``dit.py``, ``loop.py``.
"""

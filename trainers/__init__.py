"""Trainers: the short fine-tune of ASE, and pretraining of small models.

The tool loads a trainer by import string and never imports this package. A trainer measures
nothing; measurements are in ``schedsearch/evaluation``. Read first: ``ase.py``, then
``batches.py`` and ``lambda_weighting.py``; see ``README.md`` for the recipe.
"""

"""The forward process, training losses and solvers.

Mathematics of diffusion belongs here; networks, images and files do not. All times are on the
clock [0, 1000] of exit schedules. Read first: ``process.py`` and ``flow.py``, then
``solvers/base.py`` and ``solvers/ddim.py``.
"""

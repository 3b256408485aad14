"""Networks with early exits, and the weights they load.

A network and everything that knows its layers belongs here. The diffusion process, the solvers
and training do not. Read first: ``dit.py`` (the method in 20 lines of ``DiT.forward`` and
``_run_blocks``), ``exits.py``, ``guidance.py``.
"""

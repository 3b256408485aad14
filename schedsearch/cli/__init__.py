"""The command line: the parser and one module per group of commands.

A command's module is imported only when the command runs. Read first: ``main.py``,
``commands/run.py``.
"""

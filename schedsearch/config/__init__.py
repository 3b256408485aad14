"""Reads search space files strictly, with line numbers."""

"""Solvers of the reverse process; each sees only a denoiser."""

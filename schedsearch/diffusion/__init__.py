"""The forward process, losses and solvers."""

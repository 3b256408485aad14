"""Optuna samplers that propose schedules, and a registry of them by name."""

"""The study: proposes, runs and records trials."""

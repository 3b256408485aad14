"""Caches of what earlier solver steps computed, and their calibration."""

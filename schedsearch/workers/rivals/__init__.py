"""Rows of a comparison in a worker process: networks, calibration, measurement."""

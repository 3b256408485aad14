"""Workers' part of plans: calibration, what steps cost, and the choice of a plan."""

"""What a file of a run must hold to be believed: rules, line counts, identity."""

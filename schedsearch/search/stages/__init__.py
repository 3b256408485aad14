"""The stages of a run that are not trials: profile, latency, confirmation."""

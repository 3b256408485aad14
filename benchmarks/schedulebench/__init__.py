"""ScheduleBench: exhaustive tables of real schedule spaces, and any proposer replayed on them.

``python -m benchmarks.schedulebench`` replays; ``python -m benchmarks.schedulebench.make`` makes
the tables, which takes hours and can be stopped and resumed at any time.
"""

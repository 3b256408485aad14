"""Ways to sample with less compute: dynamic exits, caches, token merging, pruning.

Every one is a :class:`schedsearch.protocols.Method`. It measures nothing; the tool's own FID,
auditor and latency measure all methods alike. An exit schedule is a method too; see
:mod:`schedsearch.schedules.exit_schedule`.
"""

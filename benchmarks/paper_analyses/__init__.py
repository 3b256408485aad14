"""ASE's analyses on the digits model, each from one command, with seeds and intervals.

    python -m benchmarks.paper_analyses shapes      # ASE, Table 3: shapes at one budget
    python -m benchmarks.paper_analyses baselines   # ASE, Table 4: exits or training?
    python -m benchmarks.paper_analyses solvers     # ASE, Fig. 4: other solvers
    python -m benchmarks.paper_analyses lambda      # ASE, Sec. 3.3: loss weight near the noise
    python -m benchmarks.paper_analyses ema         # ASE, Sec. 3.3: rate of the EMA

Rows go to a JSON file as soon as they are measured, with a Markdown page beside it. The same
command resumes; more ``--seeds`` add rows. A replicate is one training seed with evaluation seeds
that no other has. Within it all rows share batches, noise and labels: differences are paired.
"""

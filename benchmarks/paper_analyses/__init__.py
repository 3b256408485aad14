"""The papers' analyses on the digits model, each from one command, with seeds and intervals.

    python -m benchmarks.paper_analyses shapes      # ASE, Table 3: one budget, several shapes
    python -m benchmarks.paper_analyses baselines   # ASE, Table 4: exits, or only training?
    python -m benchmarks.paper_analyses solvers     # ASE, Fig. 4: one fine-tune, other solvers
    python -m benchmarks.paper_analyses lambda      # ASE, Sec. 3.3: the loss weight near the noise
    python -m benchmarks.paper_analyses ema         # ASE, Sec. 3.3: "a high EMA rate"

ASE, Fig. 1 is ``examples/01_noise_easy_vs_data_easy.py``. Every row goes to a JSON file as soon
as its network is measured, with a Markdown page beside it; the same command goes on where the
last one was cut off, and more ``--seeds`` add to what is there.

A replicate is one training seed together with evaluation seeds of its own, so that an interval
over replicates covers both kinds of noise. Within a replicate all rows share batches, starting
noise and labels: differences are paired.
"""

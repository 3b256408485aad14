"""Command line of the analyses."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from benchmarks.paper_analyses.measuring import Job, Outcome, run_job
from benchmarks.paper_analyses.page import page_text
from benchmarks.paper_analyses.parts import PARTS
from benchmarks.paper_analyses.rows_file import RowsFile
from schedsearch.config import dump_settings, read_settings
from schedsearch.files.atomic import write_text
from schedsearch.workers.workbench import open_workbench

RESULTS = Path(__file__).resolve().parents[1] / "results"
SPACE = "digits_dit"
OVERRIDES = ("resources.cpus_per_trial=1", "evaluation.auditor=digits_mlp")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper_analyses",
        description="Repeat an analysis of the ASE paper on the digits model that ships.",
        epilog="The same command goes on where the last one was cut off.",
    )
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--seeds", type=_count, default=3, help="training seeds (default: 3)")
    parser.add_argument(
        "--evaluations", type=_count, default=1, help="evaluation seeds of each (default: 1)"
    )
    parser.add_argument("--jobs", type=_count, default=2, help="processes (default: 2)")
    parser.add_argument(
        "--json", type=Path, help="default: benchmarks/results/paper_analyses_PART.json"
    )
    parser.add_argument("--num-samples", type=_count, help="images per FID (default: the space's)")
    parser.add_argument(
        "--scale",
        type=_scale,
        default=1.0,
        help="factor on the lengths of all fine-tunes, for a quick look (default: 1)",
    )
    return parser


def shown_command(args: argparse.Namespace) -> str:
    """The command for the page; without --json, whose folder belongs to one machine."""
    command = f"python -m benchmarks.paper_analyses {args.part} --seeds {args.seeds}"
    if args.evaluations != 1:
        command += f" --evaluations {args.evaluations}"
    if args.num_samples is not None:
        command += f" --num-samples {args.num_samples}"
    if args.scale != 1:
        command += f" --scale {args.scale:g}"
    return command


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1, got {text}")
    return number


def _scale(text: str) -> float:
    number = float(text)
    if not 0.01 <= number <= 100:  # below it, lengths that differ would become equal
        raise argparse.ArgumentTypeError(f"must be in 0.01..100, got {text}")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, print the table and write the page."""
    args = build_parser().parse_args(arguments)
    settings = read_settings(SPACE, OVERRIDES)
    num_samples = args.num_samples or settings.evaluation.num_samples
    path: Path = args.json or RESULTS / f"paper_analyses_{args.part}.json"
    with tempfile.TemporaryDirectory(prefix="schedsearch-") as reference_dir:
        text = dump_settings(settings)
        bench = open_workbench(text, reference_dir)
        references = [bench.reference]  # computed once, before the workers start
        if bench.auditor is not None:
            references.append(bench.auditor.reference)
        part = PARTS[args.part]
        cases = part.cases(args.scale)
        protocol = {
            "cases": _digest([dataclasses.asdict(case) for case in cases]),
            "num_samples": num_samples,
            "evaluations": args.evaluations,
            "scale": args.scale,
            "recipe": _digest(dataclasses.asdict(settings.recipe)),
            "weights": _weights_digest(bench.pretrained),
            "data_and_extractors": [reference.digest for reference in references],
            "torch": torch.__version__,
        }
        file = RowsFile.open(path, part.name, protocol)
        jobs = [
            Job(
                case=case,
                replicate=replicate,
                evaluations=args.evaluations,
                num_samples=num_samples,
                settings=text,
                reference_dir=reference_dir,
            )
            for replicate in range(args.seeds)  # complete tables of few seeds first
            for case in cases
        ]
        _measure_missing(file, jobs, args.jobs)
    page = page_text(part, file, shown_command(args), args.seeds)
    write_text(path.with_suffix(".md"), page)
    print(page)
    print(f"Written to {path} and {path.with_suffix('.md')}.", file=sys.stderr)
    return 0


def _measure_missing(file: RowsFile, jobs: Sequence[Job], num_processes: int) -> None:
    todo = [job for job in jobs if file.missing(job)]
    _say(f"{len(todo)} networks to fine-tune and measure, {len(jobs) - len(todo)} are measured")
    for number, (job, outcome) in enumerate(_outcomes(todo, num_processes), 1):
        file.add(outcome.rows, outcome.seconds)
        values = ", ".join(f"{row.fid:.3f}" for row in outcome.rows)
        first = job.case.measurements[0]
        _say(
            f"{number}/{len(todo)}  seed {job.replicate}  {first.key}"
            f"{' ...' if len(job.case.measurements) > 1 else ''}: FID {values} "
            f"({outcome.seconds:.0f} CPU-s)"
        )


def _outcomes(jobs: Sequence[Job], num_processes: int) -> Iterator[tuple[Job, Outcome]]:
    if num_processes == 1 or len(jobs) < 2:
        for job in jobs:
            yield job, run_job(job)
        return
    # Fresh processes: a forked one would inherit the threads of torch in an unknown state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        futures = {pool.submit(run_job, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:  # let running jobs end, start no others
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _digest(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def _weights_digest(net: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

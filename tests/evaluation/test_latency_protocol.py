"""The protocol of a latency names all that changes it."""

import json
from dataclasses import replace

import pytest
from driving import settings_of

from schedsearch.evaluation.latency_protocol import (
    LatencyProtocol,
    latency_protocol,
    study_protocol,
)
from schedsearch.settings import EvaluationSettings, SolverSettings


def test_the_protocol_of_a_study(net):
    settings = settings_of(
        solver={"name": "dpm_solver", "num_steps": 20, "cfg_scale": 1.5},
        evaluation={"latency_batch": 8, "latency_dtype": "bfloat16"},
        resources={"cpus_per_trial": 3},
    )
    made = study_protocol(net, settings)
    assert made.device.startswith("cpu")
    assert (made.dtype, made.batch, made.threads) == ("bfloat16", 8, 3)
    assert (made.solver, made.num_steps, made.cfg_scale) == ("dpm_solver", 20, 1.5)
    assert "solver_options" not in made.to_dict()


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        (SolverSettings(name="ddim", num_steps=20), ""),
        (SolverSettings(name="ddim", num_steps=20, eta=1.0), "eta=1.0"),
        (
            SolverSettings(name="dpm_solver", order=3, method="singlestep", end_time=1.0),
            "order=3, method=singlestep, end_time=1.0",
        ),
        (SolverSettings(name="ddpm", variance="fixed_large"), "variance=fixed_large"),
    ],
)
def test_the_protocol_names_options_that_change_what_the_solver_does(net, solver, options):
    made = latency_protocol(net, solver, EvaluationSettings(), threads=1)
    assert made.solver_options == options
    again = LatencyProtocol(**json.loads(json.dumps(made.to_dict())))
    assert again == made
    plain = latency_protocol(net, SolverSettings(name=solver.name), EvaluationSettings(), 1)
    assert (made == replace(plain, num_steps=made.num_steps)) == (options == "")

"""Rules for the solver, and for how it fits the network and the process."""

from __future__ import annotations

from schedsearch.config.backbone_rules import dit_arguments
from schedsearch.config.problems import Findings
from schedsearch.settings import BackboneSettings, SolverSettings


def check_guidance(backbone: BackboneSettings, solver: SolverSettings, findings: Findings) -> None:
    """Check that the network knows "no class" where guidance needs it."""
    arguments = dit_arguments(backbone)
    if arguments is None or solver.cfg_scale == 1:
        return
    if arguments.num_classes == 0 or arguments.class_dropout_prob == 0:
        findings.add(
            ("solver", "cfg_scale"),
            "classifier-free guidance needs a backbone with num_classes and class_dropout_prob "
            f"above 0, got a scale of {solver.cfg_scale:g}",
            "set it to 1",
        )

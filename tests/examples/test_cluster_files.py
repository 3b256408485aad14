"""The example files for clusters are what Ray's launcher and Slurm read."""

import importlib.util
import json
import subprocess
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import yaml

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_cluster_file_meets_the_schema_of_rays_launcher() -> None:
    config = yaml.safe_load((EXAMPLES / "ray_cluster.yaml").read_text())
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    schema = Path(spec.origin).parent / "autoscaler" / "ray-schema.json"
    jsonschema.validate(config, json.loads(schema.read_text()))
    assert {"head_ip", "worker_ips", "type"} == set(config["provider"])
    assert {"ssh_user", "ssh_private_key"} <= set(config["auth"])
    for role in ("head", "worker"):
        (start,) = (line for line in config[f"{role}_start_ray_commands"] if " start " in line)
        assert start.startswith("RAY_AUTH_MODE=token ")
    assert (
        "--autoscaling-config=~/ray_bootstrap_config.yaml" in config["head_start_ray_commands"][1]
    )


def test_the_slurm_script_is_bash_and_names_its_resources() -> None:
    script = EXAMPLES / "ray_on_slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    options = {line.split("=")[0] for line in lines if line.startswith("#SBATCH ")}
    assert {"#SBATCH --nodes", "#SBATCH --time", "#SBATCH --signal"} <= options

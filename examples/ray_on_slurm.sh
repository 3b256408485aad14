#!/usr/bin/env bash
# A search on all nodes of a Slurm job, one worker per GPU.
# Usage, in the repository: sbatch examples/ray_on_slurm.sh SPACE [-o KEY=VALUE]...
# Submit it again to resume: nothing that was finished is lost.
#SBATCH --job-name=schedsearch
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

# The environment, the data and the run folder lie on a file system that all nodes share.
source .venv/bin/activate
export RAY_USAGE_STATS_ENABLED=0
export RAY_TMPDIR=/tmp # Slurm's TMPDIR is often too long for Ray's sockets
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]} # this script runs there
ip=$(hostname --ip-address | cut -d' ' -f1)
address=$ip:$((20000 + SLURM_JOB_ID % 10000))
per_node=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$SLURM_GPUS_ON_NODE" --block)

srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --node-ip-address="$ip" --port="${address#*:}" \
    --include-dashboard=false "${per_node[@]}" &
if ((SLURM_NNODES > 1)); then
    sleep 20
    srun --overlap --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) \
        --exclude="$head" ray start --address="$address" "${per_node[@]}" &
fi
sleep 40 # nodes that come later are used too, but their files are not compared

schedsearch run "$@" --address "$address" \
    -o resources.num_workers=$((SLURM_NNODES * SLURM_GPUS_ON_NODE)) \
    -o resources.gpus_per_trial=1 &
driver=$!
# Before the time is up the trials save their state.
trap 'kill -TERM "$driver"' TERM
wait "$driver" || wait "$driver"

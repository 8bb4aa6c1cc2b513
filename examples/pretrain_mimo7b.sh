#!/usr/bin/env bash
# Pre-train MiMo-7B under Slurm, through pre-emptions and time limits to the end:
#
#   sbatch [sbatch options] examples/pretrain_mimo7b.sh [CONFIG] [key=value ...]
#
# Submit from the root of the repository. From the environment:
#   CONTAINER_IMAGE     run in this image (pyxis/enroot), made from Dockerfile.ngc; without it, in VENV
#   CONTAINER_MOUNTS    more mounts beside the repository, as pyxis takes them
#   VENV                virtual environment to activate (default .venv, where it exists)
#   PROCESSES_PER_NODE  ranks per node (default: the GPUs that Slurm gave it, else 1)
#   the variables below that are set with a default: yours is kept
#
# On GPUs with FP8: examples/mimo_7b/pretrain_fp8.yaml as CONFIG.
#
#SBATCH --job-name=mimo-7b
#SBATCH --nodes=32
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# TERM to this shell, 300 seconds before the time limit or (PreemptParameters=send_user_signal) a pre-emption.
#SBATCH --signal=B:TERM@300
set -euo pipefail

config=examples/mimo_7b/pretrain.yaml
case ${1:-} in
    *.yaml | *.yml)
        config=$1
        shift
        ;;
esac

# The trainer leaves <output_dir>/REQUEUE when it has saved and wants to be started again. Its exit code (85) says the
# same, but does not come through: torchrun answers 1 for any worker that failed.
output_dir=$(sed -n 's/^output_dir:[[:space:]]*\([^[:space:]#]*\).*/\1/p' "$config" | tr -d "\"'")
for override in "$@"; do
    case $override in
        output_dir=* | --output_dir=*) output_dir=${override#*=} ;;
    esac
done
if [ -z "$output_dir" ]; then
    echo "$config names no output_dir itself (its base is not read here): give output_dir=FOLDER as an override" >&2
    exit 2
fi
rm -f "$output_dir/REQUEUE"

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# Below the kernel's ephemeral ports, and its own for each job.
MASTER_PORT=$((15000 + SLURM_JOB_ID % 15000))
PROCESSES_PER_NODE=${PROCESSES_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
export MASTER_ADDR MASTER_PORT PROCESSES_PER_NODE
# As in NVIDIA's published recipes; docs/gpu.md has the reason of each.
# Kernels start in the order in which they were launched: communication first, the product that hides it after it.
export CUDA_DEVICE_MAX_CONNECTIONS=${CUDA_DEVICE_MAX_CONNECTIONS:-1}
# Norms leave 16 multiprocessors to NCCL, which otherwise waits until a norm has ended.
export NVTE_FWD_LAYERNORM_SM_MARGIN=${NVTE_FWD_LAYERNORM_SM_MARGIN:-16}
export NVTE_BWD_LAYERNORM_SM_MARGIN=${NVTE_BWD_LAYERNORM_SM_MARGIN:-16}
# Reductions in the NVLink switch take GPU memory for every group, and serve no group that spans nodes.
export NCCL_NVLS_ENABLE=${NCCL_NVLS_ENABLE:-0}
# Segments that grow: rows of many lengths, and the change of layout between stages, leave no holes behind.
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}
# torchrun would kill its workers 30 seconds after a SIGTERM, saved or not: it leaves TERM to them (see launch below).
export PET_SIGNALS_TO_HANDLE=SIGINT,SIGHUP,SIGQUIT TORCHELASTIC_SIGNALS_TO_HANDLE=SIGINT,SIGHUP,SIGQUIT

container=()
if [ -n "${CONTAINER_IMAGE:-}" ]; then
    container=(
        --container-image="$CONTAINER_IMAGE"
        --container-mounts="$PWD:$PWD${CONTAINER_MOUNTS:+,$CONTAINER_MOUNTS}"
        --container-workdir="$PWD"
    )
elif [ -f "${VENV:=.venv}/bin/activate" ]; then
    # shellcheck source=/dev/null
    source "$VENV/bin/activate"
fi

# Runs on every node. Slurm signals all processes of a step; ignored here, TERM and USR1 stay ignored in torchrun, while
# the workers install their own handlers: they finish the step, save, and exit.
# shellcheck disable=SC2016
launch='
trap "" TERM USR1
binding=()
# Each rank on the CPU cores next to its GPU, where this torchrun can (torch 2.9).
if [ -n "${SLURM_GPUS_ON_NODE:-}" ] && torchrun --help | grep -q -- --numa-binding; then binding=(--numa-binding=node); fi
exec torchrun "${binding[@]}" --nnodes "$SLURM_JOB_NUM_NODES" --node-rank "$SLURM_NODEID" --nproc-per-node "$PROCESSES_PER_NODE" \
    --master-addr "$MASTER_ADDR" --master-port "$MASTER_PORT" -m megatron_mimo.pretrain "$@"'

echo "job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)): $config $*"
echo "  $SLURM_JOB_NUM_NODES node(s) x $PROCESSES_PER_NODE ranks, rendezvous at $MASTER_ADDR:$MASTER_PORT, run folder $output_dir"
# srun no longer takes over the batch's cores for its one task, which starts all ranks of a node: it is told of them.
srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" "${container[@]}" bash -c "$launch" launch "$config" "$@" &
step=$!

# Said again until the step ends: ranks that are still starting do not hear it the first time.
# shellcheck disable=SC2317
forward() {
    interrupted=yes
    [ -z "$repeater" ] || return 0
    echo "job $SLURM_JOB_ID: asked to stop; the trainer saves"
    while kill -USR1 "$step" 2> /dev/null; do sleep 10; done &
    repeater=$!
}
repeater=
trap forward TERM USR1
# A trap ends the `wait` that it interrupts: wait again until the step itself has ended.
status=0
while
    interrupted=no
    wait "$step" && status=0 || status=$?
    [ $interrupted = yes ]
do :; done
trap '' TERM USR1
[ -z "$repeater" ] || kill "$repeater" 2> /dev/null || true

if [ ! -e "$output_dir/REQUEUE" ]; then
    echo "job $SLURM_JOB_ID: training ended with exit code $status"
    exit "$status"
fi
# Slurm itself may be requeueing or cancelling the job already: only a job that still runs asks for it.
state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)
echo "job $SLURM_JOB_ID: saved and stopped on request, state $state"
if [ "$state" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit 85

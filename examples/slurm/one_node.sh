#!/usr/bin/env bash
# A real Slurm on one machine, without systemd and without touching /etc: for trying the batch scripts before a cluster
# does. Needs the Debian packages slurm-wlm and munge.
#
#   examples/slurm/one_node.sh start FOLDER    keys, configuration, state and logs go to FOLDER
#   export SLURM_CONF=FOLDER/slurm.conf        for sbatch, squeue, scancel, scontrol
#   examples/slurm/one_node.sh stop FOLDER
#
# Two partitions: jobs in `urgent` pre-empt those in `batch`, which are told 60 seconds ahead and requeued.
set -euo pipefail

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

need() {
    for program in "$@"; do
        command -v "$program" > /dev/null || {
            echo "$program is missing: apt-get install slurm-wlm munge" >&2
            exit 1
        }
    done
}

write_configuration() {
    local memory_mib
    memory_mib=$(awk '/MemTotal/ { print int($2 / 1024 * 0.9) }' /proc/meminfo)
    cat > "$folder/slurm.conf" << CONF
ClusterName=one-node
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=${SLURMCTLD_PORT:-16817}
SlurmdPort=${SLURMD_PORT:-16818}
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
JobRequeue=1
KillWait=30
SchedulerParameters=batch_sched_delay=1,sched_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=localhost NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory_mib State=UNKNOWN
PartitionName=batch Nodes=localhost Default=YES PriorityTier=1 GraceTime=60 MaxTime=INFINITE
PartitionName=urgent Nodes=localhost PriorityTier=2 MaxTime=INFINITE
CONF
}

start() {
    need munged slurmctld slurmd sinfo
    [ ! -e "$folder/slurmctld.pid" ] || {
        echo "a Slurm already runs in $folder: $0 stop $folder" >&2
        exit 1
    }
    mkdir -p "$folder/state" "$folder/spool"
    # munged refuses folders that others could write to.
    chmod 700 "$folder"
    (umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
    write_configuration
    export SLURM_CONF=$folder/slurm.conf
    slurmctld -f "$SLURM_CONF"
    slurmd -f "$SLURM_CONF" -N localhost
    wait_until_idle
    echo "Slurm is up: export SLURM_CONF=$SLURM_CONF"
}

wait_until_idle() {
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --partition=batch --format=%t 2> /dev/null)" != idle ] || return 0
        sleep 1
    done
    echo "the node did not become idle within 60 seconds; see $folder/slurmctld.log and $folder/slurmd.log" >&2
    exit 1
}

stop() {
    for daemon in slurmd slurmctld munged; do
        if [ -e "$folder/$daemon.pid" ]; then
            kill "$(cat "$folder/$daemon.pid")" 2> /dev/null || true
            rm -f "$folder/$daemon.pid"
        fi
    done
}

[ $# -eq 2 ] || usage
mkdir -p "$2"
folder=$(cd "$2" && pwd)
case $1 in
    start) start ;;
    stop) stop ;;
    *) usage ;;
esac

#!/usr/bin/env bash
# A real SLURM of one node, this machine; as root. What it writes lies in one folder, but for the link /etc/slurm/slurm.conf.
#
#   tests/slurm/node.sh install         Debian's packages; does nothing where they are there
#   tests/slurm/node.sh start <folder>  starts what does not run yet, waits until the node is idle
#   tests/slurm/node.sh stop <folder>   cancels its jobs, ends its daemons, removes the link
#
# Without accounting. SLURM itself looks at the memory of its jobs, every second: containers seldom have control groups of
# their own. The link is there because Snakemake's plugin takes SLURM_CONF away from its jobs.
set -euo pipefail

LINK=/etc/slurm/slurm.conf
HOST=$(hostname -s)

install() {
    command -v slurmctld slurmd munged sbatch >/dev/null && return
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
}

configure() {
    mkdir -p "$FOLDER"/{state,spool,munge}
    chmod 755 "$FOLDER" # munged refuses a folder that others may write to
    (umask 077 && head -c 64 /dev/urandom >"$FOLDER/munge/key")
    # Two GPUs that are none: SLURM counts files, and what becomes of a job that asks for both can be seen.
    printf 'NodeName=%s Name=gpu File=%s\n' "$HOST" /dev/null "$HOST" /dev/zero >"$FOLDER/gres.conf"
    cat >"$FOLDER/slurm.conf" <<CONF
ClusterName=tests
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge/socket
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmdPidFile=$FOLDER/slurmd.pid
SlurmctldLogFile=$FOLDER/slurmctld.log
SlurmdLogFile=$FOLDER/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
MinJobAge=3600
MailProg=/bin/true
GresTypes=gpu
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=6 RealMemory=16000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=300
CONF
}

running() { # <pid file>
    [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null
}

start() {
    export SLURM_CONF="$FOLDER/slurm.conf" # the daemons look for gres.conf beside it
    if [ -e "$LINK" ] && [ "$(realpath "$LINK")" != "$FOLDER/slurm.conf" ]; then
        echo "this machine has a SLURM already, configured in $(realpath "$LINK")" >&2
        exit 1
    fi
    [ -f "$FOLDER/slurm.conf" ] || configure
    ln -sfn "$FOLDER/slurm.conf" "$LINK"
    running "$FOLDER/munge/pid" || munged --force --socket="$FOLDER/munge/socket" --key-file="$FOLDER/munge/key" \
        --pid-file="$FOLDER/munge/pid" --log-file="$FOLDER/munge/log" --seed-file="$FOLDER/munge/seed" 2>/dev/null
    running "$FOLDER/slurmctld.pid" || slurmctld
    running "$FOLDER/slurmd.pid" || slurmd
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && return
        sleep 0.2
    done
    echo "the node is not idle after 20 s: $(sinfo --noheader --format='%T %E' 2>&1)" >&2
    tail -n 5 "$FOLDER"/slurmctld.log "$FOLDER"/slurmd.log >&2
    exit 1
}

stop() {
    local file process
    if running "$FOLDER/slurmctld.pid"; then
        scancel --user=root
        # A job outlives slurmd that ends before it has killed it.
        for _ in $(seq 100); do [ -n "$(squeue --noheader)" ] || break; sleep 0.1; done
    fi
    for file in "$FOLDER"/slurmd.pid "$FOLDER"/slurmctld.pid "$FOLDER"/munge/pid; do
        running "$file" || continue
        process=$(cat "$file")
        kill "$process"
        while kill -0 "$process" 2>/dev/null; do sleep 0.1; done
    done
    if [ "$(realpath -m "$LINK")" = "$FOLDER/slurm.conf" ]; then rm -f "$LINK"; fi
}

case "${1:-}" in
    install) install ;;
    start | stop) FOLDER=$(realpath -m "${2:?a folder}") && "$1" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac

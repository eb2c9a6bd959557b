#!/usr/bin/env bash
# A Slurm of two nodes on this machine, for tests: see usage below.
set -eu
usage() {
    cat <<TEXT
usage: slurm/cluster.sh start DIR [SECONDS]
       slurm/cluster.sh env DIR
       slurm/cluster.sh stop DIR

start  starts munged, slurmctld and two slurmd (nodes n1, n2) on loopback ports; keys, sockets, state
       and logs are in DIR (new, or one that was stopped). They end by themselves after SECONDS (900).
env    prints the settings that clients need: eval "\$(slurm/cluster.sh env DIR)"
stop   cancels this cluster's jobs and ends the processes that start recorded, and no others

Needs munge, slurmctld and slurmd (Debian: apt-get install munge slurmctld slurmd slurm-client).
FLORENZ_NODE_CPUS  CPUs that each node claims to have (4)
TEXT
}
fail() {
    echo "slurm/cluster.sh: $*" >&2
    exit 71
}

names='munged slurmctld slurmd-n1 slurmd-n2'

print_env() {
    echo "export SLURM_CONF=$dir/slurm.conf"
    # Two "nodes" of one host: ranks must not look for shared memory with each other.
    echo "export OMPI_MCA_btl=tcp,self OMPI_MCA_pml=ob1 OMPI_MCA_btl_tcp_if_include=lo"
}

# Four ports in a row that nobody listens on.
find_ports() {
    local try port
    for try in $(seq 40); do
        base=$((20000 + (($$ + RANDOM + try) % 20000)))
        for port in "$base" $((base + 1)) $((base + 2)); do
            if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue 2; fi
        done
        return 0
    done
    fail "no free ports between 20000 and 40000"
}

write_config() {
    local host user memory
    host=$(hostname -s)
    user=$(id -un)
    memory=$(awk '/MemTotal/ {print int($2 / 2048)}' /proc/meminfo)
    cat >"$dir/slurm.conf" <<CONF
ClusterName=florenz
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$base
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool-%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd-%n.log
TmpFS=$dir/tmp-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=pmix
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=10
MinJobAge=600
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((base + 1)) CPUs=$cpus RealMemory=$memory
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((base + 2)) CPUs=$cpus RealMemory=$memory
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
}

# A daemon in the foreground of a timeout: what is forgotten ends.
launch() { # name command...
    local name=$1
    shift
    setsid timeout --kill-after=5 "$seconds" "$@" >"$dir/$name.out" 2>&1 </dev/null &
    echo $! >"$dir/$name.started"
}

is_alive() { # name
    [ -f "$dir/$1.started" ] && kill -0 "$(cat "$dir/$1.started")" 2>/dev/null
}

wait_for() { # seconds what command...
    local limit=$1 what=$2 tries=0
    shift 2
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -ge $((limit * 5)) ]; then
            tail -n 5 "$dir"/*.out "$dir"/*.log >&2 2>/dev/null || true
            stop
            fail "$what: not within $limit s"
        fi
        sleep 0.2
    done
}

nodes_are_idle() {
    [ "$(sinfo --noheader --Node --format='%N %T' | sort | tr '\n' ',')" = 'n1 idle,n2 idle,' ]
}

start() {
    local name
    for name in munged slurmctld slurmd sinfo; do
        command -v "$name" >/dev/null || fail "$name is not installed (see --help)"
    done
    for name in $names; do
        ! is_alive "$name" || fail "$dir: $name runs already (stop it first)"
    done
    mkdir -p "$dir" "$dir/state" "$dir/spool-n1" "$dir/spool-n2" "$dir/tmp-n1" "$dir/tmp-n2"
    chmod 755 "$dir"
    [ -f "$dir/munge.key" ] || dd if=/dev/urandom of="$dir/munge.key" bs=1024 count=1 2>/dev/null
    chmod 600 "$dir/munge.key"
    find_ports
    write_config
    eval "$(print_env)"

    # --force: munged warns of folders like /tmp that others may write to; this one is for tests.
    launch munged munged --foreground --force --num-threads=2 --key-file="$dir/munge.key" \
        --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" --log-file="$dir/munged.log" \
        --seed-file="$dir/munged.seed"
    wait_for 10 munged test -S "$dir/munge.socket"
    launch slurmctld slurmctld -D -f "$SLURM_CONF"
    launch slurmd-n1 slurmd -D -N n1 -f "$SLURM_CONF"
    launch slurmd-n2 slurmd -D -N n2 -f "$SLURM_CONF"
    wait_for 30 "two idle nodes" nodes_are_idle
    echo "slurm of two nodes is up for $seconds s; clients: eval \"\$(slurm/cluster.sh env $dir)\""
}

stop() {
    local name pid tries
    eval "$(print_env)"
    if is_alive slurmctld; then
        timeout 5 scancel --partition=test 2>/dev/null || true
        for tries in $(seq 25); do
            [ -n "$(timeout 5 squeue --noheader 2>/dev/null)" ] || break
            sleep 0.2
        done
    fi
    for name in slurmd-n2 slurmd-n1 slurmctld munged; do
        is_alive "$name" || continue
        pid=$(cat "$dir/$name.started")
        kill -TERM "$pid" 2>/dev/null || true
        for tries in $(seq 40); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.2
        done
    done
    rm -f "$dir"/*.started
}

case "${1:---help}" in
start | stop | env) [ $# -ge 2 ] || { usage >&2; exit 64; } ;;
--help | -h) usage; exit 0 ;;
*) echo "slurm/cluster.sh: unknown command '$1'" >&2; usage >&2; exit 64 ;;
esac
mkdir -p "$2"
dir=$(cd "$2" && pwd)
seconds=${3:-900}
cpus=${FLORENZ_NODE_CPUS:-4}
case "$1" in
start) start ;;
stop) stop ;;
env) print_env ;;
esac

#!/bin/bash
# Runs a real Slurm cluster of six nodes, from Debian packages, in namespaces of its own.
#
#   slurm.sh make ROOT [SUITE]  makes or completes ROOT: bookworm has Slurm 22.05, trixie 24.11, sid 26.05
#   slurm.sh up ROOT            brings the cluster up, says "up", and ends with it when standard input ends
#
# BIND="/a:/b" shows these paths of the machine inside. Nothing is written to ROOT and nothing stays behind, so
# that several clusters can run from one ROOT. Partitions: compute (default), viz, shared, night (hidden),
# staff (for a group that nobody is in) and empty. The controller's pid is in /run/slurmctld.pid.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
packages="slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins iproute2 procps"

up() {
    export BIND="$here:${BIND:-}"
    exec unshare --net --uts --ipc --pid --fork --kill-child \
        "$here/debian-root.sh" enter "$1" "$here/slurm.sh" inside
}

inside() {
    local path
    for path in /tmp /etc/slurm /etc/munge /var/log /var/lib/munge /var/spool; do
        mkdir -p "$path"
        mount -t tmpfs tmpfs "$path"
    done
    network
    munge
    mkdir -p /var/log/slurm /var/spool/slurmctld
    configuration >/etc/slurm/slurm.conf
    # From release 23 on, cgroups can be switched off altogether; before, they are merely not mounted.
    if [ "$(slurmctld -V | sed 's/[^0-9]*\([0-9]*\).*/\1/')" -ge 23 ]; then
        echo CgroupPlugin=disabled
    else
        echo CgroupAutomount=no
    fi >/etc/slurm/cgroup.conf
    slurmctld
    local node
    for node in compute00{1..4} viz00{1,2}; do
        slurmd -N "$node"
    done
    until_six_are_idle
    echo up
    # Whoever brought the cluster up holds the other end.
    cat >/dev/null
}

network() {
    hostname head
    ip link set lo up
    # Slurm asks for addresses of configured families (AI_ADDRCONFIG), and loopback does not count as one.
    ip link add lab0 type veth peer name lab1
    ip addr add 10.77.0.1/24 dev lab0
    ip link set lab0 up
    ip link set lab1 up
    printf '127.0.0.1 localhost\n10.77.0.1 head\n' >/run/hosts
    mount --bind /run/hosts /etc/hosts
}

munge() {
    mkdir -p /run/munge /var/log/munge
    head -c 128 /dev/urandom >/etc/munge/munge.key
    chmod 400 /etc/munge/munge.key
    chmod 700 /etc/munge /var/log/munge /var/lib/munge
    chown -R munge: /etc/munge /run/munge /var/log/munge /var/lib/munge
    setpriv --reuid munge --regid munge --clear-groups munged
}

configuration() {
    cat <<'EOF'
ClusterName=lab
SlurmctldHost=head(10.77.0.1)
SlurmUser=root
AuthType=auth/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
StateSaveLocation=/var/spool/slurmctld
SlurmctldPidFile=/run/slurmctld.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdSpoolDir=/var/spool/slurmd.%n
SlurmdPidFile=/run/slurmd.%n.pid
SlurmdLogFile=/var/log/slurm/slurmd.%n.log
NodeName=compute[001-004] NodeHostname=head NodeAddr=10.77.0.1 Port=[18001-18004] State=UNKNOWN
NodeName=viz[001-002] NodeHostname=head NodeAddr=10.77.0.1 Port=[18005-18006] State=UNKNOWN
PartitionName=compute Nodes=compute[001-004] Default=YES
PartitionName=viz Nodes=viz[001-002]
PartitionName=shared Nodes=compute[001-002],viz001
PartitionName=night Nodes=compute004 Hidden=YES
PartitionName=staff Nodes=viz002 AllowGroups=operator
PartitionName=empty
EOF
}

until_six_are_idle() {
    local tries
    for tries in {1..300}; do
        [ "$(timeout -s KILL 5 sinfo -h -N -t idle -o %N 2>/dev/null | sort -u | wc -l)" = 6 ] && return
        sleep 0.1
    done
    tail -n 5 /var/log/slurm/*.log >&2
    echo "slurm.sh: the nodes did not become idle" >&2
    exit 1
}

case ${1:-} in
    make) exec "$here/debian-root.sh" make "$2" "${3:-bookworm}" $packages ;;
    up) up "$2" ;;
    inside) inside ;;
    *) echo "slurm.sh: say make or up" >&2; exit 1 ;;
esac

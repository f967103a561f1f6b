#!/bin/bash
# Runs inside the virtual machine of run.sh: each step says what it saw, and the first that is wrong ends it.
set -eEuo pipefail
trap 'echo "life: FAILED at line $LINENO: $BASH_COMMAND"; systemctl status --no-pager fivetuple; journalctl --no-pager -b -u fivetuple -u fivetuple-pins | tail -60' ERR
say() { echo "life: $*"; }
show() { systemctl show --value --property "$1" fivetuple; }
# Waits until the command succeeds.
until_() { for _ in $(seq 600); do if "$@" > /dev/null 2>&1; then return 0; fi; sleep 0.2; done; "$@"; }
answers() { curl -sf --max-time 5 "http://127.0.0.1:10435$1"; }
pid_is_not() { [ "$(show MainPID)" != "$1" ] && [ "$(show MainPID)" != 0 ] && [ "$(show ActiveState)" = active ]; }
# Unlike `!`, it counts for set -e.
not() { if "$@" > /dev/null 2>&1; then return 1; fi; }
since() { echo $(($(date +%s) - $1)); }

say "$(uname -r), $(systemctl --version | head -1)"
ip netns add peer
ip link add v0 type veth peer name v1 netns peer
ip addr add 10.9.0.1/24 dev v0
ip link set v0 up
ip -n peer addr add 10.9.0.2/24 dev v1
ip -n peer link set v1 up

# Installed as Debian installs a service: enabled and started, which returns when it is ready.
began=$(date +%s)
dpkg --install /fivetuple.deb
systemctl is-enabled fivetuple
systemctl is-active fivetuple
say "installed and started in $(since "$began") s: $(show StatusText)"
answers /-/ready
pid=$(show MainPID)
grep -E '^(Uid|NoNewPrivs|Seccomp|Cap(Prm|Eff|Bnd)):' "/proc/$pid/status"
[ "$(ps -o user= -p "$pid")" = fivetuple ]
# CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF and nothing else, and at rest, between looks at the interfaces, none in force.
grep -q '^CapPrm:.000000c000001000$' "/proc/$pid/status"
until_ grep -q '^CapEff:.0000000000000000$' "/proc/$pid/status"
# SystemCallFilter= is in force: 2 is a filter.
grep -q '^Seccomp:.2$' "/proc/$pid/status"
exposure=$(systemd-analyze security --no-pager fivetuple | awk '/exposure level for fivetuple.service: / { sub(/.*: /, ""); print $1 }')
say "exposure: $exposure of 10"
# 1.7 by the unit's own lines; packaging/tests/platform/unit.rs has the same limit.
awk -v exposure="$exposure" 'BEGIN { exit !(exposure != "" && exposure <= 2.0) }'
say "memory, with the tables: $(($(show MemoryCurrent) >> 20)) MiB"

# It sees traffic: refused connections of the peer's.
for _ in 1 2 3; do ip netns exec peer curl -s --max-time 5 http://10.9.0.1:81 || true; done
until_ bash -c 'curl -sf http://127.0.0.1:10435/metrics | grep -E "^fivetuple_tcp_resets_total.*cause=\"refused\".* 3$"'
say "three refused connections were seen"

# Reload: read again by the same process; a wrong file is told in the status, and the old one stays in force.
printf 'services: [{name: card, prefixes: [10.9.0.0/24]}]\n' > /etc/fivetuple/fivetuple.yaml
systemctl reload fivetuple
until_ bash -c 'curl -sf http://127.0.0.1:10435/metrics | grep svc=.card'
printf 'servcies: []\n' > /etc/fivetuple/fivetuple.yaml
systemctl reload fivetuple
until_ bash -c 'systemctl show --property StatusText fivetuple | grep "configuration is wrong"'
[ "$(show MainPID)" = "$pid" ]
printf '{}\n' > /etc/fivetuple/fivetuple.yaml
systemctl reload fivetuple
until_ bash -c '! systemctl show --property StatusText fivetuple | grep "configuration is wrong"'
say "reloaded: $(show StatusText)"

# The connection log is where the unit lets it be.
printf 'connection_log: {path: /var/log/fivetuple/connections.jsonl}\n' > /etc/fivetuple/fivetuple.yaml
systemctl reload fivetuple
until_ test -f /var/log/fivetuple/connections.jsonl
say "$(stat --format '%n: %U %a' /var/log/fivetuple /var/log/fivetuple/connections.jsonl | tr '\n' ' ')"

# Payments go on meanwhile, are refused, and each of them is counted: whoever watches again goes on with the counts.
refused() { answers /metrics | awk '/^fivetuple_tcp_resets_total.*cause="refused"/ { n += $2 } END { print n + 0 }'; }
counts() { [ "$(refused)" = "$1" ]; }
payments() { # until a command has succeeded
    local n=0
    "$@" > /dev/null & local busy=$!
    while kill -0 "$busy" 2> /dev/null; do ip netns exec peer curl -s --max-time 5 http://10.9.0.1:81 || true; n=$((n + 1)); done
    wait "$busy"
    made=$n
}
through() { # what it is, and the command
    local what=$1 before began
    shift
    before=$(refused)
    began=$(date +%s)
    payments "$@"
    until_ counts $((before + made)) || { say "$what: $made payments and $before before are not $(refused)"; return 1; }
    say "$what in $(since "$began") s: $made payments meanwhile, all of them counted, $before before"
}
# Those of ours that the kernel has.
programs() { bpftool prog show | grep -c ' name ft_' || true; }

say "pinned: $(stat --format '%n %U %a' /sys/fs/bpf/fivetuple), $(find /sys/fs/bpf/fivetuple -type f -o -path '*/links/*' | wc -l) pins"
programs=$(programs)
through "restarted" systemctl restart fivetuple
[ "$(programs)" = "$programs" ]
kill_and_wait() { kill -9 "$pid"; until_ pid_is_not "$pid"; }
pid=$(show MainPID)
through "killed, and started anew" kill_and_wait
say "restarts: $(show NRestarts)"
answers /-/ready

# Held up: it answers nobody and reads nothing. The watchdog ends it, and it is started anew.
pid=$(show MainPID)
stand_still() { kill -STOP "$pid"; until_ pid_is_not "$pid"; }
through "stood still, and watching again" stand_still
journalctl -b -u fivetuple | grep -q 'Watchdog timeout'

# Out of memory: the kernel ends it, and it is started anew once it may have its memory again.
pid=$(show MainPID)
out_of_memory() {
    systemctl set-property --runtime fivetuple MemoryMax=4M
    until_ bash -c 'journalctl -b -u fivetuple | grep oom-kill'
    systemctl set-property --runtime fivetuple MemoryMax=infinity
    until_ pid_is_not "$pid"
}
through "out of memory, and watching again" out_of_memory
answers /-/ready

# Upgraded: restarted once the new one is in place.
pid=$(show MainPID)
through "upgraded" dpkg --install /fivetuple.deb
pid_is_not "$pid"
answers /-/ready
say "$(journalctl -b -u fivetuple -o short-iso | grep -c 'Started fivetuple') starts so far"
# To one that cannot go on with what is there: it begins anew.
rm /sys/fs/bpf/fivetuple/net-*/generation-*/OWN
dpkg --install /fivetuple.deb
answers /-/ready
journalctl -b -u fivetuple | grep -q 'OWN is missing'
counts 0
[ "$(programs)" = "$programs" ]
say "upgraded where it cannot go on with the tables"

# Nothing that it needed was forbidden to it.
not bash -c 'journalctl -b -u fivetuple | grep -i "operation not permitted"'
not bash -c 'journalctl -b -k | grep type=1326'
say "nothing was forbidden to it"

# Stopped: at once, cleanly, and nothing is left on the interface or in the kernel.
gone() { [ ! -e /sys/fs/bpf/fivetuple ] && [ "$(programs)" = 0 ]; }
began=$(date +%s)
systemctl stop fivetuple
[ "$(show Result)" = success ]
[ "$(show ExecMainStatus)" = 0 ]
until_ gone
say "stopped in $(since "$began") s, and nothing is left"
[ -z "$(tc filter show dev v0 egress)$(tc filter show dev v0 ingress)" ]

# Failed for good: nothing is left either.
systemctl start fivetuple
printf 'servcies: []\n' > /etc/fivetuple/fivetuple.yaml
not systemctl restart fivetuple
until_ systemctl is-failed fivetuple
until_ gone
printf '{}\n' > /etc/fivetuple/fivetuple.yaml
systemctl reset-failed fivetuple
say "failed for good, and nothing is left"

# Away: stopped by the package, and its traces go when it is purged.
systemctl start fivetuple
dpkg --remove fivetuple
gone
not systemctl is-active fivetuple
dpkg --purge fivetuple
not getent passwd fivetuple
[ -z "$(find /etc /usr /var -name '*fivetuple*' -not -path '/var/lib/dpkg/*')" ]
say "removed and purged"
say "all is well"

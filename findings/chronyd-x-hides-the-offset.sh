#!/bin/bash
# chrony 4.3-2+deb12u3, chronyd -x ("disables the control of the system clock").
#
# With -x chronyd leaves the clock alone, but goes on as if it had corrected it: the offsets
# of `chronyc sources`, `sourcestats` and `ntpdata` are those of that imagined clock. Beside
# a server that is 0.4 s ahead of the machine for good, `sources` shows microseconds; only the
# system time of `tracking` has the 0.4 s. Whoever measures another server by the sources of
# a `chronyd -x`, as a test or a container would, measures nothing.
#
# Needs python3. Seen: the last sample of `sources` below 10 ms, and the system time of
# `tracking` at 0.40 s.
source "$(dirname "$(readlink -f "$0")")/common.sh"
debian chrony=4.3-2+deb12u3
mkdir -m 0750 run

cat > server.py <<'PY'
import socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 11123))
def timestamp(t):
    t += 2208988800
    return struct.pack("!II", int(t), int((t % 1) * 2**32))
while True:
    request, peer = s.recvfrom(1000)
    now = time.time() + 0.4
    head = struct.pack("!BBbbII4s", 0x24, 1, request[2], -20, 0, 0, b"TEST")
    s.sendto(head + timestamp(now - 1) + request[40:48] + timestamp(now) + timestamp(time.time() + 0.4), peer)
PY
cat > chrony.conf <<CONF
server 127.0.0.1 port 11123 iburst minpoll 0 maxpoll 0
bindcmdaddress $work/run/chronyd.sock
pidfile $work/run/chronyd.pid
cmdport 0
port 0
CONF
start python3 server.py
start ./root/usr/sbin/chronyd -x -d -u "$(id -un)" -f chrony.conf >chronyd.log 2>&1
seen=no
for _ in $(seq 60); do
  sleep 1
  row=$(./root/usr/bin/chronyc -h "$work/run/chronyd.sock" -c sources 2>/dev/null | grep '^^,\*' || true)
  [ -n "$row" ] || continue
  seen=$(./root/usr/bin/chronyc -h "$work/run/chronyd.sock" -c tracking | awk -F, -v row="$row" '
    function abs(x) { return x < 0 ? -x : x }
    { split(row, r, ","); printf "source %s, system %.2f", abs(r[8]) < 0.01 ? "right" : r[8], abs($5) }')
  [ "$seen" = "source right, system 0.40" ] && break
done
printf 'sources: %s\n' "$row"
expect "a clock that is 0.4 s off and never corrected" "source right, system 0.40" "$seen"

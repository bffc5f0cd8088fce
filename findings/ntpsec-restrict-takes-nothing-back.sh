#!/bin/bash
# ntpsec 1.2.2+dfsg1-1+deb12u1, ntpd's `restrict` lines.
#
# The flags of all lines for one network add up: a later line without a flag does not take it
# back. And all others begin with `noquery limited`, which is built in: `restrict default`,
# which reads as "no restrictions", leaves queries refused. Only `unrestrict` takes back.
# Who translates such a file line by line gives more than ntpd did.
#
# Needs root (a network namespace of its own), python3, iproute2 and util-linux. ntpd runs
# without the capability to set a clock, and with its loop and the kernel's disabled.
# Seen: whether ntpd answers 127.0.0.2 when it is asked for the time (mode 3) and for its
# variables (mode 6).
source "$(dirname "$(readlink -f "$0")")/common.sh"
debian ntpsec=1.2.2+dfsg1-1+deb12u1 libbsd0 libmd0 libcap2 libssl3
cat > ask.py <<'PY'
import socket, sys
time = b"\x23" + bytes(47)
query = b"\x16\x01\x00\x01" + bytes(8)
def answers(source, request, patience):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((source, 0))
    s.settimeout(patience)
    s.sendto(request, ("127.0.0.1", 123))
    try:
        return len(s.recv(2048)) > 0
    except OSError:
        return False
for _ in range(60):  # until it listens: 127.0.0.3 may always ask
    if answers("127.0.0.3", query, 0.5):
        break
seen = [name for name, request in (("time", time), ("queries", query)) if answers("127.0.0.2", request, 2)]
print(" ".join(seen) or "nothing")
PY
cat > try.sh <<'SH'
ip link set lo up
try() {
  printf 'disable ntp kernel\nrestrict 127.0.0.3\n%b\n' "$1" > conf
  setpriv --bounding-set=-sys_time --inh-caps=-sys_time root/usr/sbin/ntpd -n -c conf >log 2>&1 & pid=$!
  echo "[$1] $(env -u LD_LIBRARY_PATH python3 ask.py)"
  kill $pid; wait $pid 2>/dev/null
}
try "restrict default"
try "restrict default\nunrestrict default noquery limited"
try "restrict default ignore\nrestrict default"
try "restrict 127.0.0.2 noserve\nrestrict 127.0.0.2"
try "restrict 127.0.0.2 noserve\nunrestrict 127.0.0.2 noserve"
SH
unshare --net bash try.sh > seen
cat > wanted <<'END'
[restrict default] time
[restrict default\nunrestrict default noquery limited] time queries
[restrict default ignore\nrestrict default] nothing
[restrict 127.0.0.2 noserve\nrestrict 127.0.0.2] queries
[restrict 127.0.0.2 noserve\nunrestrict 127.0.0.2 noserve] time queries
END
expect "what is answered" "$(cat wanted)" "$(cat seen)"

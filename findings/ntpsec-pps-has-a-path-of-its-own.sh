#!/bin/bash
# ntpsec 1.2.2+dfsg1-1+deb12u1, `refclock pps` and `refclock nmea`.
#
# `path` names the device of a reference clock, and is taken without a word on the line of a
# PPS clock too, but not used there: it opens /dev/pps7 (of `unit 7`), unless `ppspath` names
# another. For NMEA it is the other way round: `path` is the line, `ppspath` its pulses.
#
# Needs root (a network namespace of its own) and util-linux. ntpd runs without the capability
# to set a clock, and with its loop and the kernel's disabled. Seen: which device it says it
# cannot open.
source "$(dirname "$(readlink -f "$0")")/common.sh"
debian ntpsec=1.2.2+dfsg1-1+deb12u1 libbsd0 libmd0 libcap2 libssl3
cat > try.sh <<'SH'
ip link set lo up
try() {
  printf 'disable ntp kernel\n%s\n' "$1" > conf
  setpriv --bounding-set=-sys_time --inh-caps=-sys_time root/usr/sbin/ntpd -n -c conf >log 2>&1 & pid=$!
  for _ in $(seq 20); do grep -q "open failed\|No such file" log && break; sleep 0.5; done
  echo "[$1] $(grep -o "/[a-z/0-9]*[:a-z ]*\(open failed\|No such file or directory\).*" log | head -1)"
  kill $pid; wait $pid 2>/dev/null
}
try "refclock pps unit 7 path /nowhere/a"
try "refclock pps unit 7 ppspath /nowhere/b"
try "refclock nmea unit 7 path /nowhere/c"
SH
unshare --net bash try.sh > seen
cat > wanted <<'END'
[refclock pps unit 7 path /nowhere/a] /dev/pps7 open failed: No such file or directory
[refclock pps unit 7 ppspath /nowhere/b] /nowhere/b open failed: No such file or directory
[refclock nmea unit 7 path /nowhere/c] /nowhere/c: No such file or directory
END
expect "what is opened" "$(cat wanted)" "$(cat seen)"

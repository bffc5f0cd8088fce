#!/bin/bash
# ntpsec 1.2.2+dfsg1-1+deb12u1, ntpd's `interface` (also `nic`) lines.
#
# Without such a line every address is opened. With a single one, of any kind, an address
# that no line names is opened no longer: `interface ignore d1` closes d0 too, and a line
# for a device that is not there leaves only loopback. Who means "all but d1" has to write
# `interface listen all` before it.
#
# Needs root (a network namespace of its own), iproute2 and util-linux. ntpd runs without
# the capability to set a clock, and with its loop and the kernel's disabled.
# Seen: the addresses with a socket at port 123, as ss lists them.
source "$(dirname "$(readlink -f "$0")")/common.sh"
debian ntpsec=1.2.2+dfsg1-1+deb12u1 libbsd0 libmd0 libcap2 libssl3
cat > try.sh <<'SH'
ip link set lo up
ip link add d0 type veth peer name d1
for i in 0 1; do
  ip addr add 10.9.$i.1/24 dev d$i
  ip link set d$i up
done
try() {
  { echo "disable ntp kernel"; [ -n "$1" ] && printf '%b\n' "$1"; } > conf
  setpriv --bounding-set=-sys_time --inh-caps=-sys_time root/usr/sbin/ntpd -n -c conf >log 2>&1 & pid=$!
  for _ in $(seq 100); do ss -Hlnu4 | grep -q 127.0.0.1:123 && break; sleep 0.1; done
  sleep 1
  echo "[$1] $(ss -Hlnu4 | awk '{print $4}' | grep -o '10[.]9[.][01][.]1:123' | sort | tr '\n' ' ')"
  kill $pid; wait $pid 2>/dev/null
}
try ""
try "interface ignore d1"
try "interface drop none7"
try "interface listen all\ninterface ignore d1"
SH
unshare --net bash try.sh > seen
printf '%s\n' "[] 10.9.0.1:123 10.9.1.1:123 " "[interface ignore d1] " "[interface drop none7] " \
  '[interface listen all\ninterface ignore d1] 10.9.0.1:123 ' > wanted
expect "addresses opened" "$(cat wanted)" "$(cat seen)"

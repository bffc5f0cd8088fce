#!/bin/bash
# chrony 4.3-2+deb12u3, `chronyc activity` and pools.
#
# A pool whose name does not resolve is not one source with an unknown address but twice as
# many as its `maxsources`: one line of the configuration gives 14 with 7, and 8 with none
# said (4). A server is one. So an alert on that number, or who compares the number of sources
# with the lines of the file, cannot tell one bad name from fourteen.
#
# Needs root (a network namespace of its own, where no name resolves) and util-linux. chronyd
# runs with -x and without the capability to set a clock.
source "$(dirname "$(readlink -f "$0")")/common.sh"
debian chrony=4.3-2+deb12u3 libseccomp2 libcap2 libedit2 libbsd0 libmd0 libnettle8 libgnutls30 libhogweed6 libgmp10
cat > try.sh <<'SH'
ip link set lo up
try() {
  printf 'port 0\npidfile %s/pid\nbindcmdaddress /\ncmdallow 127.0.0.1\ncmdport 11323\n%b\n' "$PWD" "$1" > conf
  setpriv --bounding-set=-sys_time --inh-caps=-sys_time root/usr/sbin/chronyd -x -d -F 0 -u root -f conf >log 2>&1 & pid=$!
  seen=
  for _ in $(seq 40); do
    seen=$(root/usr/bin/chronyc -h 127.0.0.1 -p 11323 -n activity 2>/dev/null | grep unknown) && break
    sleep 0.5
  done
  echo "[$1] $seen"
  kill $pid; wait $pid 2>/dev/null
}
try "server one.invalid"
try "pool many.invalid maxsources 7"
try "server one.invalid\npool many.invalid"
SH
unshare --net bash try.sh > seen
cat > wanted <<'END'
[server one.invalid] 1 sources with unknown address
[pool many.invalid maxsources 7] 14 sources with unknown address
[server one.invalid\npool many.invalid] 9 sources with unknown address
END
expect "what activity counts" "$(cat wanted)" "$(cat seen)"

#!/bin/bash
# NTPsec 1.2.2: `server ADDRESS nts` with an IPv6 address never makes a key exchange.
#
# With the address in brackets or not, the log has "Servname not supported for ai_socktype",
# as if what follows a colon of the address were the name of a service; no connection is tried. With
# IPv4 it is tried (and refused here: nobody listens).
#
# Needs root, setpriv and unshare.
source "$(dirname "$(readlink -f "$0")")/common.sh"
debian ntpsec=1.2.2+dfsg1-1+deb12u1 libbsd0 libmd0 libcap2 libssl3
cat > try.sh <<'SH'
ip link set lo up
for address in 127.0.0.1 fd00::1 '[fd00::1]'; do
  printf 'disable ntp kernel\nserver %s nts\n' "$address" > conf
  setpriv --bounding-set=-sys_time --inh-caps=-sys_time root/usr/sbin/ntpd -n -c conf >log 2>&1 & pid=$!
  for _ in $(seq 100); do grep -q 'NTSc: .*\(trying\|connect\)' log && break; sleep 0.2; done
  echo "$address: $(grep -o 'Servname not supported\|Connection refused' log | head -1)"
  kill $pid; wait $pid 2>/dev/null
done
SH
unshare --net bash try.sh > seen
printf '%s\n' '127.0.0.1: Connection refused' 'fd00::1: Servname not supported' '[fd00::1]: Servname not supported' > wanted
expect "what the key exchange comes to" "$(cat wanted)" "$(cat seen)"

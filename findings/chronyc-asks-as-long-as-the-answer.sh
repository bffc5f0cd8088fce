#!/bin/bash
# chrony 4.3-2+deb12u3, chronyc over UDP.
#
# chronyc pads each request to the length of the reply that it knows, so that no reply is
# longer than what asked for it; a command's number is the same in all versions. Whoever
# answers in chronyd's place has to tell from the length of the request which form of the
# reply is wanted: with another form of the right command chronyc says only "506 Cannot
# talk to daemon".
#
# Needs python3. Seen: the lengths of the first requests for `tracking`, `serverstats` and
# `ntpdata` (4.6.1 sends 104, 196 and 172).
source "$(dirname "$(readlink -f "$0")")/common.sh"
debian chrony=4.3-2+deb12u3

cat > listen.py <<'PY'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 11323))
seen = []
while True:
    data, peer = s.recvfrom(4096)
    command = int.from_bytes(data[4:6], "big")
    if command not in [c for c, _ in seen]:
        seen.append((command, len(data)))
        open("seen", "a").write("%d:%d " % (command, len(data)))
PY
start python3 listen.py
sleep 2
for report in tracking serverstats "ntpdata 192.0.2.1"; do
  timeout 20 ./root/usr/bin/chronyc -h 127.0.0.1 -p 11323 -n $report >out 2>&1 || true
done
tail -1 out
expect "command and octets of the requests" "33:104 54:72 57:152" "$(sed 's/ *$//' seen)"

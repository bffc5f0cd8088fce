#!/bin/bash
# chrony 4.3-2+deb12u3, chronyc's `manual list`.
#
# The reply begins with how many entries follow. chronyc takes one that ends behind the last of
# them for no reply at all and says "506 Cannot talk to daemon", also where there are none and
# the reply is whole: it wants the room of all 16, which its own chronyd always sends. So who
# answers in chronyd's place sends 384 octets of nothing.
#
# Needs python3. Seen: what chronyc says to a reply of no entries, without and with their room.
source "$(dirname "$(readlink -f "$0")")/common.sh"
debian chrony=4.3-2+deb12u3
cat > mock.py <<'PY'
import socket, struct, sys
port, room = int(sys.argv[1]), int(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", port))
while True:
    q, peer = s.recvfrom(4096)
    command, sequence = struct.unpack_from(">H", q, 4)[0], q[8:12]
    head = struct.pack(">BBBBHHHHHH", 6, 2, 0, 0, command, 18, 0, 0, 0, 0) + sequence + bytes(8)
    s.sendto(head + struct.pack(">I", 0) + bytes(room), peer)
PY
start python3 mock.py 11324 0
start python3 mock.py 11325 384
sleep 2
ask() { timeout 30 ./root/usr/bin/chronyc -h 127.0.0.1 -p "$1" -n manual list 2>&1 | head -1 || true; }
expect "a reply of no entries" "506 Cannot talk to daemon" "$(ask 11324)"
expect "the same with room for 16" "210 n_samples = 0" "$(ask 11325)"

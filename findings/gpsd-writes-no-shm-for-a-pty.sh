#!/bin/bash
# gpsd 3.22-4.1+deb12u1: the shared memory of ntpd's driver 28.
#
# gpsd makes its eight units at the start, before any receiver has a fix, and counts in
# them only for sources that are no pseudo terminal: whatever is played to it through one
# (gpsfake does so by default, and so would most test rigs) never reaches the shared memory,
# though gpsd reports the fix to its own clients. The same sentences over TCP do reach it.
#
# Needs root (an IPC and a network namespace of its own) and python3. Seen: the count of unit
# 0 after twelve seconds, by a pseudo terminal and by TCP.
source "$(dirname "$(readlink -f "$0")")/common.sh"
debian gpsd=3.22-4.1+deb12u1 libusb-1.0-0 libbluetooth3

cat > feed.py <<'PY'
import os, pty, socket, sys, time, tty
def sentence(body):
    check = 0
    for c in body: check ^= ord(c)
    return "$%s*%02X\r\n" % (body, check)
if sys.argv[1] == "pty":
    out, line = pty.openpty()
    tty.setraw(line)
    open("where", "w").write(os.ttyname(line))
else:
    l = socket.socket()
    l.bind(("127.0.0.1", 0)); l.listen(1)
    open("where", "w").write("tcp://127.0.0.1:%d" % l.getsockname()[1])
    conn = l.accept()[0]
    out = conn.fileno()
while True:
    second = int(time.time()) + 1
    time.sleep(second + 0.1 - time.time())
    t = time.gmtime(second)
    clock, date = time.strftime("%H%M%S.00", t), time.strftime("%d%m%y", t)
    os.write(out, (sentence("GPRMC,%s,A,4807.038,N,01131.000,E,0.0,0.0,%s,,,A" % (clock, date)) +
        sentence("GPGGA,%s,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,," % clock) +
        sentence("GPGSA,A,3,01,02,03,04,05,06,07,08,,,,,1.5,0.9,1.2")).encode())
PY
cat > count.py <<'PY'
import ctypes, struct
c = ctypes.CDLL(None, use_errno=True)
c.shmat.restype = ctypes.c_void_p
at = c.shmat(c.shmget(0x4E545030, 96, 0), None, 0)
mode, count = struct.unpack("ii", ctypes.string_at(at, 8))
print("written" if count > 0 else "never written")
PY
cat > try.sh <<'SH'
ip link set lo up
rm -f where
python3 feed.py "$1" & feed=$!
until [ -s where ]; do sleep 0.2; done
./root/usr/sbin/gpsd -N -n "$(cat where)" >gpsd.log 2>&1 & gpsd=$!
sleep 12
python3 count.py > seen
kill $gpsd $feed
SH
for by in pty tcp; do
  unshare --ipc --net bash try.sh $by
  printf '%s: %s\n' $by "$(cat seen)" >> all
done
expect "unit 0" "pty: never written, tcp: written" "$(paste -sd, all | sed 's/,/, /')"

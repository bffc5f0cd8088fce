#!/bin/bash
# gpsd 3.25-5+deb13u2: the socket of chrony's kind, which has the time of the serial line
# since that version.
#
# gpsd connects to /run/chrony.clk.DEVICE.sock once, when it opens the receiver. When the
# program that reads it is restarted and makes the socket anew, gpsd never connects again:
# every send fails (ENOTCONN, an ERROR a second in its log), while its shared memory goes on.
# Only a restart of gpsd, or the receiver being plugged in again, brings the samples back.
#
# Needs root (mount, IPC and network namespaces of its own), python3 and Debian 13's packages.
# Seen: messages at the first socket and at the one made in its place, eight seconds each.
source "$(dirname "$(readlink -f "$0")")/common.sh"
mkdir -p parts lists/partial cache/archives/partial root
sed 's/bookworm/trixie/g; s/^Types:/Trusted: yes\nTypes:/' /etc/apt/sources.list.d/debian.sources > parts/debian.sources
newer=(-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/parts" -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache")
(apt-get "${newer[@]}" update && apt-get "${newer[@]}" download gpsd=3.25-5+deb13u2 libc6 libusb-1.0-0 libbluetooth3 libdbus-1-3 libudev1 libcap2 libsystemd0) >apt.log 2>&1 ||
  { cat apt.log; echo "Debian 13 cannot be had here"; exit 1; }
for deb in *.deb; do dpkg-deb -x "$deb" root; done

cat > feed.py <<'PY'
import socket, time
def sentence(body):
    check = 0
    for c in body: check ^= ord(c)
    return "$%s*%02X\r\n" % (body, check)
l = socket.socket()
l.bind(("127.0.0.1", 5000)); l.listen(1)
open("where", "w").write("x")
conn = l.accept()[0]
while True:
    second = int(time.time()) + 1
    time.sleep(second + 0.1 - time.time())
    t = time.gmtime(second)
    clock, date = time.strftime("%H%M%S.00", t), time.strftime("%d%m%y", t)
    conn.sendall((sentence("GPRMC,%s,A,4807.038,N,01131.000,E,0.0,0.0,%s,,,A" % (clock, date)) +
        sentence("GPGGA,%s,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,," % clock) +
        sentence("GPGSA,A,3,01,02,03,04,05,06,07,08,,,,,1.5,0.9,1.2")).encode())
PY
cat > listen.py <<'PY'
import os, socket, time
path = "/run/chrony.clk.127.0.0.1:5000.sock"
def count():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(path); s.settimeout(0.5)
    open("bound", "w").write("x")
    n, end = 0, time.time() + 8
    while time.time() < end:
        try: s.recv(100); n += 1
        except socket.timeout: pass
    s.close(); os.unlink(path)
    return "some" if n else "none"
print("first: %s, made anew: %s" % (count(), count()))
PY
cat > try.sh <<'SH'
ip link set lo up
mount -t tmpfs none /run
python3 feed.py & feed=$!
python3 listen.py > seen & listener=$!
until [ -s where ] && [ -s bound ]; do sleep 0.1; done
root/usr/lib64/ld-linux-x86-64.so.2 --library-path root/usr/lib/x86_64-linux-gnu root/usr/sbin/gpsd -N -n tcp://127.0.0.1:5000 >gpsd.log 2>&1 & gpsd=$!
wait $listener
kill $gpsd $feed
SH
unshare --ipc --net --mount bash try.sh
expect "messages" "first: some, made anew: none" "$(cat seen)"

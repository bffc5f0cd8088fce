#!/bin/bash
# Linux (veth): what XDP_TX sends back arrives only by chance where the other end has no program.
#
# With GRO on, an end of a veth takes frames in NAPI without an XDP program, and what is
# redirected to it (bpf_redirect) arrives at once. What a program at the other end sends back
# by XDP_TX is put into the same ring, but its flush (veth_xdp_flush) wakes the receiver only if a
# program is attached there: the frame lies there until somebody else sends something.
#
# Needs root, ip, ethtool, python3, clang (or clang-16) and libbpf's headers.
source "$(dirname "$(readlink -f "$0")")/common.sh"
cat > reflect.c <<'C'
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
// A datagram (IPv4 without options) goes back to where it came from; checksums stay right.
static __always_inline int reflect(struct xdp_md *ctx, int redirect)
{
	unsigned char *p = (void *)(long)ctx->data, t;
	if (p + 42 > (unsigned char *)(long)ctx->data_end || p[12] != 8 || p[13] != 0 || p[23] != 17)
		return XDP_PASS;
	for (int i = 0; i < 6; i++) { t = p[i]; p[i] = p[i + 6]; p[i + 6] = t; }
	for (int i = 26; i < 30; i++) { t = p[i]; p[i] = p[i + 4]; p[i + 4] = t; }
	for (int i = 34; i < 36; i++) { t = p[i]; p[i] = p[i + 2]; p[i + 2] = t; }
	return redirect ? bpf_redirect(ctx->ingress_ifindex, 0) : XDP_TX;
}
SEC("xdp.tx") int tx(struct xdp_md *ctx) { return reflect(ctx, 0); }
SEC("xdp.redirect") int redirect(struct xdp_md *ctx) { return reflect(ctx, 1); }
char _license[] SEC("license") = "GPL";
C
$(command -v clang clang-16 | head -1) -O2 -g -target bpf -I/usr/include/x86_64-linux-gnu -c reflect.c -o reflect.o
cat > echo.py <<'PY'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
got = 0
for i in range(4):
    s.sendto(b"x" * 20, ("10.9.0.2", 9))
    try:
        got += s.recvfrom(100)[1] == ("10.9.0.2", 9)
    except socket.timeout:
        pass
print(got, "received")
PY
cat > try.sh <<'SH'
here=finding-$$
ip netns add $here
trap 'ip netns delete $here' EXIT
ip link add far type veth peer name near netns $here
ip link set far address 02:00:00:00:00:02 up
ip -n $here link set lo up
ip -n $here link set near up
ip -n $here address add 10.9.0.1/24 dev near
ip -n $here neighbour replace 10.9.0.2 lladdr 02:00:00:00:00:02 dev near nud permanent
ip netns exec $here ethtool -K near gro on tx off >/dev/null
for how in redirect tx; do
  ip link set dev far xdpdrv obj reflect.o sec xdp.$how
  echo "$how $(ip netns exec $here python3 echo.py)"
  ip link set dev far xdpdrv off
done
SH
unshare --net bash try.sh > seen
printf '%s\n' "redirect 4 received" "tx 0 received" > wanted
expect "datagrams that came back" "$(cat wanted)" "$(cat seen)"

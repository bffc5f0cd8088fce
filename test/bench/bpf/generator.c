// The load for servers that answer in the driver must cost less than they do. Here it never
// leaves the driver either: `prime` makes requests of the frames that BPF_PROG_TEST_RUN sends,
// `pace` does so at a rate, `turn` sits at the generator's end of the link, judges each reply,
// and in a closed loop makes the next request of it. `prime_ready` and `turn_ready` do so with
// requests that are sealed and cannot be changed. `drain` stands in for a server that only
// drops, `watch` holds the lengths of replies against their requests'.
//
// go generate compiles this file; the object is committed beside it.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define EPOCHS 64      // of 2^24 ns, 16.8 ms
#define BUCKETS 2048   // of 2^7 ns, the last one for all beyond 262 us

// counts are of one processor.
struct counts {
	__u64 sent;
	__u64 received; // good replies
	__u64 invalid;
	__u64 longer; // replies longer than their requests
	__u64 waiting[EPOCHS]; // sent then, less those that were answered
	__u64 latency[BUCKETS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} counted SEC(".maps");

struct ntp {
	__u8 leap_version_mode;
	__u8 stratum;
	__s8 poll;
	__s8 precision;
	__u32 root_delay;
	__u32 root_dispersion;
	__u32 reference_id;
	__u64 reference;
	__u64 origin;
	__u64 receive;
	__u64 transmit;
} __attribute__((packed));

#define UDP_SIZE (sizeof(struct udphdr) + sizeof(struct ntp))

struct frame {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	struct ntp ntp;
} __attribute__((packed));

struct settings {
	__be32 clients;  // the network that requests come from
	__u32 addresses; // how many addresses of it, a power of two, less one
	__u32 closed;    // a reply becomes a request
	__be16 port;     // of the server
	__u16 burst;     // of pace: how many requests leave together
	__u32 size;      // of a ready request's frame, and of its reply's
	__u32 pad;
	__u64 every;     // ns from one burst to the next
	__u64 next;      // when that one is due
	__u64 left;      // of the present one
	__u8 frame[96];  // a struct frame: a request, but for what differs
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} configured SEC(".maps");

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

// request makes a frame a request, whatever was in it: also pages that BPF_PROG_TEST_RUN uses
// again hold what the server has written. Each has another client's address, and the moment
// as its transmit timestamp.
static __always_inline void request(struct frame *f, struct settings *s, struct counts *c, __u64 now)
{
	__be32 words[8];
	__builtin_memcpy(f, s->frame, sizeof(*f));
	f->ip.saddr = s->clients | bpf_htonl(bpf_get_prandom_u32() & s->addresses);
	f->ip.check = 0;
	__builtin_memcpy(words, &f->ip, sizeof(f->ip));
	f->ip.check = ~fold(bpf_csum_diff(0, 0, words, sizeof(f->ip), 0));
	f->ntp.transmit = now;
	f->udp.check = 0;
	words[0] = f->ip.saddr;
	words[1] = f->ip.daddr;
	words[2] = bpf_htonl(IPPROTO_UDP << 16 | UDP_SIZE);
	__u32 sum = bpf_csum_diff(0, 0, words, 12, 0);
	sum = bpf_csum_diff(0, 0, (void *)&f->udp, UDP_SIZE, sum);
	f->udp.check = ~fold(sum);
	if (f->udp.check == 0)
		f->udp.check = 0xffff;
	c->sent++;
	c->waiting[now >> 24 & (EPOCHS - 1)]++;
}

SEC("xdp")
int prime(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct frame *f = (void *)(long)ctx->data;
	struct settings *s = bpf_map_lookup_elem(&configured, &zero);
	struct counts *c = bpf_map_lookup_elem(&counted, &zero);
	if (!s || !c || (void *)(f + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	request(f, s, c, bpf_ktime_get_ns());
	return XDP_TX;
}

#define LATE 1000000 // ns

// pace is run all the time, and sends what is due.
SEC("xdp")
int pace(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct frame *f = (void *)(long)ctx->data;
	struct settings *s = bpf_map_lookup_elem(&configured, &zero);
	struct counts *c = bpf_map_lookup_elem(&counted, &zero);
	if (!s || !c || (void *)(f + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	__u64 now = bpf_ktime_get_ns();
	if (s->left == 0) {
		if (now < s->next)
			return XDP_DROP;
		s->next = now - s->next > LATE ? now : s->next; // nothing is made up for
		s->next += s->every;
		s->left = s->burst;
	}
	s->left--;
	request(f, s, c, now);
	return XDP_TX;
}

// good is what a server that knows the time answers.
static __always_inline int good(struct ntp *n)
{
	return (n->leap_version_mode & 0x3f) == (4 << 3 | 4) && n->leap_version_mode >> 6 != 3 &&
		n->stratum >= 1 && n->stratum <= 15 && n->receive && n->transmit;
}

SEC("xdp")
int turn(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct frame *f = (void *)(long)ctx->data;
	struct settings *s = bpf_map_lookup_elem(&configured, &zero);
	struct counts *c = bpf_map_lookup_elem(&counted, &zero);
	if (!s || !c || (void *)(f + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	if (f->eth.h_proto != bpf_htons(ETH_P_IP) || f->ip.ihl != 5 || f->ip.protocol != IPPROTO_UDP || f->udp.source != s->port)
		return XDP_PASS;
	__u64 now = bpf_ktime_get_ns(), then = f->ntp.origin;
	if (f->udp.len != bpf_htons(UDP_SIZE) || !good(&f->ntp) || then > now || now - then > 1000000000) {
		c->invalid++;
		return XDP_PASS; // another client's, perhaps
	}
	c->received++;
	c->waiting[then >> 24 & (EPOCHS - 1)]--;
	__u64 bucket = (now - then) >> 7;
	if (bucket >= BUCKETS)
		bucket = BUCKETS - 1;
	asm volatile("" : "+r"(bucket)); // or the compiler checks another copy than it uses
	c->latency[bucket & (BUCKETS - 1)]++;
	if (!s->closed)
		return XDP_DROP;
	request(f, s, c, now);
	// Not XDP_TX: a veth wakes its other end for that only where a program is attached there.
	return bpf_redirect(ctx->ingress_ifindex, 0);
}

// A ready request is a whole frame, for the first client's address.
#define READY 64
#define READY_SIZE 512
#define READY_PORTS 40000 // the source port tells the epoch

struct ready {
	__u16 words[READY_SIZE / 2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, READY);
	__type(key, __u32);
	__type(value, struct ready);
} prepared SEC(".maps");

// changed is a checksum after a word of what it is over has changed (RFC 1624).
static __always_inline __u16 changed(__u16 check, __u16 before, __u16 after)
{
	return ~fold((__u16)~check + (__u16)~before + after);
}

// ready makes a frame one of the ready requests, from another client.
static __always_inline int ready(struct frame *f, void *end, struct settings *s, struct counts *c, __u64 now)
{
	__u32 i = bpf_get_prandom_u32() & (READY - 1);
	struct ready *r = bpf_map_lookup_elem(&prepared, &i);
	__u16 *at = (void *)f;
	if (!r || (void *)(f + 1) > end)
		return 0;
	for (int j = 0; j < READY_SIZE / 2; j++) {
		if ((void *)(at + j + 1) > end)
			break;
		at[j] = r->words[j];
	}
	__be32 from = f->ip.saddr | bpf_htonl(bpf_get_prandom_u32() & s->addresses);
	__be16 port = bpf_htons(READY_PORTS + (now >> 24 & (EPOCHS - 1)));
	f->ip.check = changed(f->ip.check, f->ip.saddr, from);
	f->ip.check = changed(f->ip.check, f->ip.saddr >> 16, from >> 16);
	f->udp.check = changed(f->udp.check, f->ip.saddr, from);
	f->udp.check = changed(f->udp.check, f->ip.saddr >> 16, from >> 16);
	f->udp.check = changed(f->udp.check, f->udp.source, port);
	f->ip.saddr = from;
	f->udp.source = port;
	c->sent++;
	c->waiting[now >> 24 & (EPOCHS - 1)]++;
	return 1;
}

SEC("xdp")
int prime_ready(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct settings *s = bpf_map_lookup_elem(&configured, &zero);
	struct counts *c = bpf_map_lookup_elem(&counted, &zero);
	if (!s || !c || !ready((void *)(long)ctx->data, (void *)(long)ctx->data_end, s, c, bpf_ktime_get_ns()))
		return XDP_DROP;
	return XDP_TX;
}

SEC("xdp")
int turn_ready(struct xdp_md *ctx)
{
	__u32 zero = 0;
	void *end = (void *)(long)ctx->data_end;
	struct frame *f = (void *)(long)ctx->data;
	struct settings *s = bpf_map_lookup_elem(&configured, &zero);
	struct counts *c = bpf_map_lookup_elem(&counted, &zero);
	if (!s || !c || (void *)(f + 1) > end)
		return XDP_PASS;
	if (f->eth.h_proto != bpf_htons(ETH_P_IP) || f->ip.ihl != 5 || f->ip.protocol != IPPROTO_UDP || f->udp.source != s->port)
		return XDP_PASS;
	__u16 epoch = bpf_ntohs(f->udp.dest) - READY_PORTS;
	if (epoch >= EPOCHS || end - (void *)f != s->size || !good(&f->ntp)) {
		c->invalid++;
		return XDP_PASS;
	}
	c->received++;
	c->waiting[epoch & (EPOCHS - 1)]--;
	if (!s->closed)
		return XDP_DROP;
	ready(f, end, s, c, bpf_ktime_get_ns());
	return bpf_redirect(ctx->ingress_ifindex, 0);
}

SEC("xdp")
int drain(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct frame *f = (void *)(long)ctx->data;
	struct settings *s = bpf_map_lookup_elem(&configured, &zero);
	if (!s || (void *)(f + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	if (f->eth.h_proto != bpf_htons(ETH_P_IP) || f->ip.protocol != IPPROTO_UDP || f->udp.dest != s->port)
		return XDP_PASS;
	return XDP_DROP;
}

struct vlan {
	__be16 tag;
	__be16 protocol;
};

// watch takes all that the server sends. A request's source port is PORTS and the length of
// its datagram.
#define PORTS 20000

SEC("xdp")
int watch(struct xdp_md *ctx)
{
	__u32 zero = 0;
	void *at = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = at;
	struct settings *s = bpf_map_lookup_elem(&configured, &zero);
	struct counts *c = bpf_map_lookup_elem(&counted, &zero);
	if (!s || !c || (void *)(eth + 1) > end)
		return XDP_PASS;
	__be16 protocol = eth->h_proto;
	at += sizeof(*eth);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		struct vlan *v = at;
		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(v + 1) > end)
			return XDP_PASS;
		protocol = v->protocol;
		at += sizeof(*v);
	}
	struct iphdr *v4 = at;
	struct ipv6hdr *v6 = at;
	struct udphdr *udp;
	if (protocol == bpf_htons(ETH_P_IP)) {
		if ((void *)(v4 + 1) > end || v4->ihl != 5 || v4->protocol != IPPROTO_UDP)
			return XDP_PASS;
		udp = (void *)(v4 + 1);
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(v6 + 1) > end || v6->nexthdr != IPPROTO_UDP)
			return XDP_PASS;
		udp = (void *)(v6 + 1);
	} else
		return XDP_PASS;
	if ((void *)(udp + 1) > end || udp->source != s->port)
		return XDP_PASS;
	c->received++;
	__u32 asked = bpf_ntohs(udp->dest) - PORTS, replied = bpf_ntohs(udp->len) - sizeof(*udp);
	if (replied > asked)
		c->longer++;
	return XDP_DROP;
}

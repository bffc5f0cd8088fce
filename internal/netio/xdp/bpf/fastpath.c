// A plain NTP request is answered here, in the driver: mode 3 of version 3 or 4, 48 octets
// without extension fields or a MAC. One with such goes to a worker of the daemon by an
// AF_XDP socket, where there is one. Everything else goes up unchanged, and the sockets
// answer it. What stands in a reply comes from the daemon (struct state), which has its
// own responder make it; the two timestamps are ours.
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

enum result { ANSWERED, RATE_KOD, LIMITED, FORWARDED, REDIRECTED, RESULTS };

enum flags { INTERLEAVED = 1, LIMIT = 2, ACCESS = 4, KISS = 8, FIELDS = 16, NOT_PLAIN = 32 };

// state is what the daemon knows at a moment. Timestamps are in host byte order.
struct state {
	__u64 valid_until; // of the monotonic clock, ns; after it everything goes up
	__u64 at;          // of the monotonic clock, ns: the moment of base and dispersion
	__u64 base;        // NTP timestamp at that moment
	__u64 rate;        // 2^-60 s of our clock a nanosecond of the monotonic one
	__u64 growth;      // of the root dispersion, 2^-64 s a nanosecond
	__u64 reference;   // reference timestamp
	__u64 interval;    // of the rate limit, ns
	__u64 burst;       // how far ahead of the average a client may be, ns
	__u32 leak;        // of the requests over the limit those whose bits are all 0
	__u32 root_delay;  // 2^-16 s
	__u32 dispersion;  // 2^-16 s
	__u32 reference_id;
	__u32 sample;      // the requests whose random bits are all 0 go up, so that the daemon sees who asks; 0: none
	__u8 leap;
	__u8 stratum;
	__s8 precision;
	__s8 kiss_poll; // poll exponent of a RATE kiss, at least
	__u8 flags;
	__u8 pad[7];
};

// Two states, of which one is in use while the other is written.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct state);
} states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} current SEC(".maps");

// address is one at which we answer; IPv4 as ::ffff:a.b.c.d.
struct address {
	__u8 octets[16];
	__be16 port;
	__u16 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct address);
	__type(value, __u8);
} addresses SEC(".maps");

// prefix is a network whose clients get the time without showing anything.
struct prefix {
	__u32 bits;
	__u8 octets[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u8);
} access SEC(".maps");

// budget is the rate limit's state of one client, as responder.budget.
struct budget {
	__u64 due;
	__u64 kod;    // stretch of KISS_GAP intervals in which the last kiss fell, plus 1
};

#define KISS_GAP 8

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct budget);
} budgets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RESULTS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

// with_workers is set before the program is loaded: without, all that has to do with them is
// dead code, which the verifier of no kernel minds, and the map of sockets is none.
const volatile __u8 with_workers = 0;

// queue is a receive queue of an interface; what stands for it is the place of its worker.
struct queue {
	__u32 interface;
	__u32 number;
};

#define WORKERS 256

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WORKERS);
	__type(key, struct queue);
	__type(value, __u32);
} queues SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, WORKERS);
	__type(key, __u32);
	__type(value, __u32);
} workers SEC(".maps");

// ntp is the header of RFC 5905 section 7.3.
struct ntp {
	__u8 leap_version_mode;
	__u8 stratum;
	__s8 poll;
	__s8 precision;
	__be32 root_delay;
	__be32 root_dispersion;
	__be32 reference_id;
	__be64 reference;
	__be64 origin;
	__be64 receive;
	__be64 transmit;
} __attribute__((packed));

#define NTP_SIZE 48
#define UDP_SIZE (sizeof(struct udphdr) + NTP_SIZE)
#define UDP_LONGEST (sizeof(struct udphdr) + 1472) // that goes to a worker
#define MODE_CLIENT 3
#define MODE_SERVER 4
#define LEAP_UNKNOWN 3
#define RATE 0x52415445

// packet is where things stand in a frame, and who talks to whom.
struct packet {
	struct ethhdr *eth;
	struct iphdr *v4;
	struct ipv6hdr *v6;
	struct udphdr *udp;
	struct ntp *ntp;
	struct address to;
	struct prefix from;
	__u64 client; // for the rate limit: the IPv4 address, or the IPv6 /56
	__u16 size;   // of the datagram with its header, by the IP header
};

struct vlan {
	__be16 tag;
	__be16 protocol;
};

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

// pseudo4 and pseudo6 are the sums of the pseudo headers (RFC 768, RFC 8200 section 8.1).
static __always_inline __u32 pseudo4(struct iphdr *ip, __u32 size)
{
	__be32 words[3] = {ip->saddr, ip->daddr, bpf_htonl(IPPROTO_UDP << 16 | size)};
	return bpf_csum_diff(0, 0, words, sizeof(words), 0);
}

static __always_inline __u32 pseudo6(struct ipv6hdr *ip, __u32 size)
{
	__be32 words[10];
	__builtin_memcpy(words, &ip->saddr, 16);
	__builtin_memcpy(words + 4, &ip->daddr, 16);
	words[8] = bpf_htonl(size);
	words[9] = bpf_htonl(IPPROTO_UDP);
	return bpf_csum_diff(0, 0, words, sizeof(words), 0);
}

// parse4 and parse6 take what has no options and is no fragment, from an address that
// anybody can have.
static __always_inline int parse4(struct packet *p, void *at, void *end)
{
	struct iphdr *ip = at;
	if ((void *)(ip + 1) > end || ip->ihl != 5 || ip->version != 4 || ip->protocol != IPPROTO_UDP)
		return 0;
	if (ip->frag_off & bpf_htons(0xbfff))
		return 0;
	p->size = bpf_ntohs(ip->tot_len) - sizeof(*ip);
	__u32 from = bpf_ntohl(ip->saddr);
	if (from >> 28 >= 14 || from >> 24 == 0 || from >> 24 == 127)
		return 0;
	__be32 sum[5];
	__builtin_memcpy(sum, ip, sizeof(sum));
	if (fold(bpf_csum_diff(0, 0, sum, sizeof(sum), 0)) != 0xffff)
		return 0;
	p->v4 = ip;
	p->to.octets[10] = p->to.octets[11] = 0xff;
	__builtin_memcpy(p->to.octets + 12, &ip->daddr, 4);
	p->from.octets[10] = p->from.octets[11] = 0xff;
	__builtin_memcpy(p->from.octets + 12, &ip->saddr, 4);
	p->client = from;
	p->udp = (void *)(ip + 1);
	return 1;
}

static __always_inline int parse6(struct packet *p, void *at, void *end)
{
	struct ipv6hdr *ip = at;
	if ((void *)(ip + 1) > end || ip->version != 6 || ip->nexthdr != IPPROTO_UDP)
		return 0;
	p->size = bpf_ntohs(ip->payload_len);
	__u64 high, low;
	__builtin_memcpy(&high, &ip->saddr, 8);
	__builtin_memcpy(&low, (void *)&ip->saddr + 8, 8);
	if (ip->saddr.in6_u.u6_addr8[0] == 0xff || high == 0) // groups; unspecified, loopback, mapped
		return 0;
	p->v6 = ip;
	__builtin_memcpy(p->to.octets, &ip->daddr, 16);
	__builtin_memcpy(p->from.octets, &ip->saddr, 16);
	p->client = bpf_be64_to_cpu(high) | 1; // apart from every IPv4 address
	p->client &= ~0xfeULL;
	p->udp = (void *)(ip + 1);
	return 1;
}

// network finds what follows the link layer: up to two VLAN tags are passed over.
static __always_inline void *network(struct packet *p, void *at, void *end, __be16 *protocol)
{
	p->eth = at;
	if ((void *)(p->eth + 1) > end || p->eth->h_dest[0] & 1) // groups, broadcast
		return 0;
	*protocol = p->eth->h_proto;
	at += sizeof(*p->eth);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		struct vlan *v = at;
		if (*protocol != bpf_htons(ETH_P_8021Q) && *protocol != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(v + 1) > end)
			return 0;
		*protocol = v->protocol;
		at += sizeof(*v);
	}
	return at;
}

// parse finds a request for one of our addresses, as far as the frame tells. is4 is a
// constant everywhere: each family has its own copy of the code.
static __always_inline int parse(struct packet *p, void *at, void *end, const int is4)
{
	if (is4 ? !parse4(p, at, end) : !parse6(p, at, end))
		return 0;
	p->ntp = (void *)(p->udp + 1);
	if ((void *)(p->ntp + 1) > end || p->size < UDP_SIZE || p->udp->len != bpf_htons(p->size) || p->udp->source == 0)
		return 0;
	p->from.bits = 128;
	p->to.port = p->udp->dest;
	return bpf_map_lookup_elem(&addresses, &p->to) != 0;
}

// asks says whether this is a request that need not go to the sockets.
static __always_inline int asks(struct packet *p, struct state *s)
{
	__u8 first = p->ntp->leap_version_mode, version = first >> 3 & 7;
	if ((first & 7) != MODE_CLIENT || version < 3 || version > 4)
		return 0;
	if (s->flags & INTERLEAVED && p->ntp->origin != 0)
		return 0;
	return p->udp->check != 0;
}

// plain says whether the request is of the kind that is answered here.
static __always_inline int plain(struct packet *p, struct state *s, const int is4)
{
	if (s->flags & NOT_PLAIN || !asks(p, s))
		return 0;
	__u32 sum = is4 ? pseudo4(p->v4, UDP_SIZE) : pseudo6(p->v6, UDP_SIZE);
	return fold(bpf_csum_diff(0, 0, (__be32 *)p->udp, UDP_SIZE, sum)) == 0xffff;
}

// admit is the rate limit of responder.budget.
static __always_inline enum result admit(struct packet *p, struct state *s, __u64 now)
{
	struct budget fresh = {}, *b = bpf_map_lookup_elem(&budgets, &p->client);
	if (!b) {
		fresh.due = now + s->interval;
		bpf_map_update_elem(&budgets, &p->client, &fresh, BPF_ANY);
		return ANSWERED;
	}
	if (b->due <= now + s->burst) {
		b->due = (b->due > now ? b->due : now) + s->interval;
		return ANSWERED;
	}
	if ((bpf_get_prandom_u32() & s->leak) == 0)
		return ANSWERED;
	__u64 stretch = now / (KISS_GAP * s->interval) + 1;
	if (s->flags & KISS && b->kod != stretch) {
		b->kod = stretch;
		return RATE_KOD;
	}
	return LIMITED;
}

// timestamp is our clock's at a reading of the monotonic one.
static __always_inline __u64 timestamp(struct state *s, __u64 now)
{
	return s->base + ((now - s->at) * s->rate >> 28);
}

// turn sends a frame back to where it came from.
static __always_inline void turn(struct packet *p, const int is4)
{
	__u8 mac[ETH_ALEN];
	__builtin_memcpy(mac, p->eth->h_dest, ETH_ALEN);
	__builtin_memcpy(p->eth->h_dest, p->eth->h_source, ETH_ALEN);
	__builtin_memcpy(p->eth->h_source, mac, ETH_ALEN);
	__be16 port = p->udp->dest;
	p->udp->dest = p->udp->source;
	p->udp->source = port;
	if (is4) {
		__be32 to = p->v4->daddr, words[5];
		p->v4->daddr = p->v4->saddr;
		p->v4->saddr = to;
		p->v4->ttl = 64;
		p->v4->check = 0;
		__builtin_memcpy(words, p->v4, sizeof(words));
		p->v4->check = ~fold(bpf_csum_diff(0, 0, words, sizeof(words), 0));
	} else {
		struct in6_addr to = p->v6->daddr;
		p->v6->daddr = p->v6->saddr;
		p->v6->saddr = to;
		p->v6->hop_limit = 64;
	}
}

// answer writes the reply in the request's place. The transmit timestamp is the last that
// is read; only the checksum, which is over it, comes after.
static __always_inline void answer(struct packet *p, struct state *s, __u64 arrived, enum result result, const int is4)
{
	struct ntp *n = p->ntp;
	__u8 version = n->leap_version_mode >> 3 & 7;
	turn(p, is4);
	n->leap_version_mode = s->leap << 6 | version << 3 | MODE_SERVER;
	n->stratum = s->stratum;
	n->precision = s->precision;
	n->root_delay = bpf_htonl(s->root_delay);
	n->root_dispersion = bpf_htonl(s->dispersion + (__u32)((arrived - s->at) * s->growth >> 48));
	n->reference_id = bpf_htonl(s->reference_id);
	n->reference = bpf_cpu_to_be64(s->reference);
	if (result == RATE_KOD) { // it holds no time (RFC 5905 section 7.4)
		n->leap_version_mode = LEAP_UNKNOWN << 6 | version << 3 | MODE_SERVER;
		n->stratum = 0;
		n->root_delay = n->root_dispersion = 0;
		n->reference_id = bpf_htonl(RATE);
		n->reference = 0;
		if (n->poll < s->kiss_poll)
			n->poll = s->kiss_poll;
	}
	n->origin = n->transmit;
	__u64 receive = timestamp(s, arrived), transmit = timestamp(s, bpf_ktime_get_ns());
	if (transmit <= receive)
		transmit = receive + 1;
	n->receive = bpf_cpu_to_be64(receive);
	n->transmit = bpf_cpu_to_be64(transmit);
	p->udp->check = 0;
	__u32 sum = is4 ? pseudo4(p->v4, UDP_SIZE) : pseudo6(p->v6, UDP_SIZE);
	sum = bpf_csum_diff(0, 0, (__be32 *)p->udp, UDP_SIZE, sum);
	p->udp->check = ~fold(sum);
	if (p->udp->check == 0)
		p->udp->check = 0xffff;
}

static __always_inline int count(__u32 result, int action)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &result);
	if (n)
		(*n)++;
	return action;
}

#define CHUNK 64

// intact says whether the checksum of a datagram of any length is right.
static __always_inline int intact(struct packet *p, void *end, const int is4)
{
	__u32 left = p->size, sum = is4 ? pseudo4(p->v4, left) : pseudo6(p->v6, left);
	void *at = p->udp;
	for (int i = 0; i < UDP_LONGEST / CHUNK && left >= CHUNK; i++) {
		if (at + CHUNK > end)
			return 0;
		sum = bpf_csum_diff(0, 0, at, CHUNK, sum);
		at += CHUNK;
		left -= CHUNK;
	}
	for (int i = 0; i < CHUNK / 4 && left >= 4; i++) {
		if (at + 4 > end)
			return 0;
		sum = bpf_csum_diff(0, 0, at, 4, sum);
		at += 4;
		left -= 4;
	}
	return left == 0 && fold(sum) == 0xffff;
}

// redirect gives a request with extension fields or a MAC to the worker of its queue, with
// the time of its arrival before the frame.
static __always_inline int redirect(struct xdp_md *ctx, struct packet *p, struct state *s, void *end, __u64 now, const int is4)
{
	if (!(s->flags & FIELDS) || p->size > UDP_LONGEST || p->size & 3 || !asks(p, s))
		return XDP_PASS;
	if (!is4 && p->v6->saddr.in6_u.u6_addr8[0] == 0xfe) // link-local: means nothing without its interface
		return XDP_PASS;
	struct queue q = {ctx->ingress_ifindex, ctx->rx_queue_index};
	__u32 *worker = bpf_map_lookup_elem(&queues, &q);
	if (!worker || !intact(p, end, is4) || bpf_xdp_adjust_meta(ctx, -(int)sizeof(now)))
		return XDP_PASS;
	__u64 *arrived = (void *)(long)ctx->data_meta;
	if ((void *)(arrived + 1) > (void *)(long)ctx->data)
		return XDP_PASS;
	*arrived = now;
	int action = bpf_redirect_map(&workers, *worker, XDP_PASS);
	return action == XDP_REDIRECT ? count(REDIRECTED, action) : action;
}

static __always_inline int serve(struct xdp_md *ctx, struct packet *p, void *at, void *end, __u64 now, const int is4)
{
	if (!parse(p, at, end, is4))
		return XDP_PASS; // not for us
	__u32 zero = 0, *which = bpf_map_lookup_elem(&current, &zero);
	if (!which)
		return XDP_PASS;
	__u32 index = *which & 1;
	struct state *s = bpf_map_lookup_elem(&states, &index);
	int valid = s && now <= s->valid_until && now >= s->at;
	if (p->size != UDP_SIZE)
		return with_workers && valid ? redirect(ctx, p, s, end, now, is4) : XDP_PASS;
	if (!valid)
		return count(FORWARDED, XDP_PASS);
	if (!plain(p, s, is4))
		return count(FORWARDED, XDP_PASS);
	if (s->flags & ACCESS && !bpf_map_lookup_elem(&access, &p->from))
		return count(FORWARDED, XDP_PASS);
	if (s->sample && (bpf_get_prandom_u32() & s->sample) == 0)
		return count(FORWARDED, XDP_PASS);
	enum result result = ANSWERED;
	if (s->flags & LIMIT)
		result = admit(p, s, now);
	if (result == LIMITED)
		return count(LIMITED, XDP_DROP);
	answer(p, s, now, result, is4);
	return count(result, XDP_TX);
}

SEC("xdp")
int fastpath(struct xdp_md *ctx)
{
	__u64 now = bpf_ktime_get_ns();
	void *end = (void *)(long)ctx->data_end;
	struct packet p = {};
	__be16 protocol = 0;
	void *at = network(&p, (void *)(long)ctx->data, end, &protocol);
	if (!at)
		return XDP_PASS;
	if (protocol == bpf_htons(ETH_P_IP))
		return serve(ctx, &p, at, end, now, 1);
	if (protocol == bpf_htons(ETH_P_IPV6))
		return serve(ctx, &p, at, end, now, 0);
	return XDP_PASS;
}

// The least that answers NTP: one thread, recvmmsg and sendmmsg in batches of 64, the
// kernel's receive timestamps, a receive buffer of 4 MiB. No access list, no statistics, no
// client log, no MAC. What the sockets of this kernel can do on one core.
//
//   reference ADDRESS PORT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, SIZE = 1024, CONTROL = 256, HEADER = 48 };
static const uint64_t unix_epoch = 2208988800u;

static unsigned char data[BATCH][SIZE];
static unsigned char control[BATCH][CONTROL];
static struct sockaddr_in from[BATCH];
static struct iovec in_iov[BATCH], out_iov[BATCH];
static struct mmsghdr in[BATCH], out[BATCH];

static void put_timestamp(unsigned char *p, const struct timespec *t)
{
	uint32_t seconds = htonl((uint32_t)(t->tv_sec + unix_epoch));
	uint32_t fraction = htonl((uint32_t)(((uint64_t)t->tv_nsec << 32) / 1000000000u));
	memcpy(p, &seconds, 4);
	memcpy(p + 4, &fraction, 4);
}

// received finds the kernel's timestamp of a message; else it reads the clock.
static struct timespec received(struct msghdr *h)
{
	struct timespec t;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
			memcpy(&t, CMSG_DATA(c), sizeof t);
			return t;
		}
	clock_gettime(CLOCK_REALTIME, &t);
	return t;
}

// answer turns a request in mode 3 into its reply in place; it returns 0 for anything else.
static int answer(unsigned char *p, unsigned length, const struct timespec *arrival)
{
	struct timespec now;
	int version = p[0] >> 3 & 7;
	if (length < HEADER || (p[0] & 7) != 3 || version < 1 || version > 4)
		return 0;
	p[0] = version << 3 | 4;
	p[1] = 1;
	p[3] = (unsigned char)-24;
	memset(p + 4, 0, 8);
	memcpy(p + 12, "REF", 4);
	memcpy(p + 24, p + 40, 8);
	put_timestamp(p + 16, arrival);
	put_timestamp(p + 32, arrival);
	clock_gettime(CLOCK_REALTIME, &now);
	put_timestamp(p + 40, &now);
	return 1;
}

static int open_socket(const char *address, const char *port)
{
	int one = 1, buffer = 4 << 20, fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	if (fd < 0 || inet_pton(AF_INET, address, &at.sin_addr) != 1 ||
	    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one) < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
	return bind(fd, (struct sockaddr *)&at, sizeof at) < 0 ? -1 : fd;
}

int main(int argc, char **argv)
{
	int fd = argc == 3 ? open_socket(argv[1], argv[2]) : -1;
	if (fd < 0) {
		perror("reference ADDRESS PORT");
		return 1;
	}
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			in_iov[i] = (struct iovec){data[i], SIZE};
			in[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &in_iov[i],
				.msg_iovlen = 1, .msg_control = control[i], .msg_controllen = CONTROL};
		}
		int n = recvmmsg(fd, in, BATCH, MSG_WAITFORONE, NULL), replies = 0;
		if (n < 0 && errno != EINTR)
			return 1;
		for (int i = 0; i < n; i++) {
			struct timespec arrival = received(&in[i].msg_hdr);
			if (!answer(data[i], in[i].msg_len, &arrival))
				continue;
			out_iov[replies] = (struct iovec){data[i], HEADER};
			out[replies].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &out_iov[replies], .msg_iovlen = 1};
			replies++;
		}
		for (int sent = 0; sent < replies;) {
			int m = sendmmsg(fd, out + sent, (unsigned)(replies - sent), 0);
			sent += m > 0 ? m : 1;
		}
	}
}

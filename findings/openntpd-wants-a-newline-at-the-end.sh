#!/bin/bash
# openntpd 1:6.2p3-4.2+b1, ntpd -n.
#
# The last line of ntpd.conf has to end in a newline: without it a valid line is a syntax
# error, and the daemon does not start. A file of one such line, as a template or `printf %s`
# leaves it, is refused as a whole.
#
# Seen: the exit status of `ntpd -n -f` on the same line with and without it.
source "$(dirname "$(readlink -f "$0")")/common.sh"
debian openntpd=1:6.2p3-4.2+b1

try() { ./root/usr/sbin/ntpd -n -f "$1" >out 2>&1 && echo good || { tail -1 out >&2; echo refused; }; }
printf 'server 192.0.2.1\n' > with
printf 'server 192.0.2.1' > without
expect "a valid line" "with newline good, without refused" "with newline $(try with), without $(try without)"

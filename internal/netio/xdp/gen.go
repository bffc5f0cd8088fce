package xdp

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -tags linux -target bpfel,bpfeb -type state -type address -type prefix -type budget -type queue fastpath bpf/fastpath.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu

package bench

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -tags linux -target bpfel,bpfeb -type settings -type counts -type ready driven bpf/generator.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu

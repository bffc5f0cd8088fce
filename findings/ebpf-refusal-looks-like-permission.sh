#!/bin/bash
# github.com/cilium/ebpf v0.22.0: what the error of a refused program is.
#
# The kernel answers EACCES where its verifier refuses a program, and the library's
# VerifierError keeps it in its chain: errors.Is(err, os.ErrPermission) is true for a
# program that is wrong, exactly as for a process without CAP_BPF. A daemon that looks for
# the permission first tells its operator to add capabilities that are there; errors.As for
# *ebpf.VerifierError has to come first.
#
# Needs go and root (it loads a program of two instructions that reads an unset register).
source "$(dirname "$(readlink -f "$0")")/common.sh"
export GOFLAGS=-mod=mod GO111MODULE=on
cat > main.go <<'GO'
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

func main() {
	_, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Reg(asm.R0, asm.R6), asm.Return()},
	})
	var verifier *ebpf.VerifierError
	fmt.Printf("permission %v, verifier %v", errors.Is(err, os.ErrPermission), errors.As(err, &verifier))
}
GO
go mod init finding >/dev/null 2>&1
go get github.com/cilium/ebpf@v0.22.0 >/dev/null 2>&1
expect "the error of a program that the verifier refuses" "permission true, verifier true" "$(go run .)"

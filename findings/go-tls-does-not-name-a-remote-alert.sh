#!/bin/bash
# Go's crypto/tls (go 1.26): which alert the other side has sent.
#
# tls.AlertError is a type of the package, and errors.As finds none in the error of a
# connection that the peer has ended with an alert: it is for QUIC alone. What is in the
# *net.OpError ("remote error") is of a type without a name outside, so that a program that
# wants to tell no_application_protocol from protocol_version compares a text.
#
# Needs go. Seen, for a client whose protocol (ALPN) the server lacks: whether errors.As finds
# a tls.AlertError, the operation of the *net.OpError, its type, and its text.
source "$(dirname "$(readlink -f "$0")")/common.sh"
cat > main.go <<'GO'
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

func main() {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"a"}}
	der, _ := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	near, far := net.Pipe()
	go func() {
		_ = tls.Server(far, &tls.Config{NextProtos: []string{"ntske/1"},
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}).Handshake()
	}()
	err := tls.Client(near, &tls.Config{ServerName: "a", NextProtos: []string{"other/1"}}).Handshake()
	var alert tls.AlertError
	found := errors.As(err, &alert)
	var operation *net.OpError
	if !errors.As(err, &operation) {
		fmt.Printf("no OpError: %v\n", err)
		return
	}
	fmt.Printf("%t %q %T %q\n", found, operation.Op, operation.Err, operation.Err)
}
GO
cat > go.mod <<'MOD'
module alert

go 1.26
MOD
expect "the error" 'false "remote error" tls.alert "tls: no application protocol"' "$(GOFLAGS= GOTOOLCHAIN=local go run .)"

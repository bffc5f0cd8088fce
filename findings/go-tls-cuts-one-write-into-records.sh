#!/bin/bash
# Go's crypto/tls (go 1.26): one Write, several records.
#
# A connection's first kilobytes go out in records that fit a TCP segment, whatever was given to
# one Write: a message of 1,500 octets arrives as two records. A peer that reads one
# record and takes it for the message, as NTPsec 1.2.2 does in its NTS key exchange, loses the
# rest. Config.DynamicRecordSizingDisabled ends it; the record then holds up to 16 KiB.
#
# Needs go. Seen: the number of application data records of one Write of 1,500 octets.
source "$(dirname "$(readlink -f "$0")")/common.sh"
cat > main.go <<'GO'
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"
)

// counted counts the TLS records that are written once it is told to.
type counted struct {
	net.Conn
	on      bool
	records int
}

func (c *counted) Write(b []byte) (int, error) {
	for rest := b; c.on && len(rest) >= 5; {
		c.records++
		rest = rest[5+int(rest[3])<<8+int(rest[4]):]
	}
	return c.Conn.Write(b)
}

func records(whole bool) int {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, _ := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	a, b := net.Pipe()
	server := &counted{Conn: a}
	s := tls.Server(server, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, DynamicRecordSizingDisabled: whole,
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
	})
	c := tls.Client(b, &tls.Config{InsecureSkipVerify: true})
	go func() {
		if c.Handshake() == nil {
			_, _ = io.Copy(io.Discard, c)
		}
	}()
	if err := s.Handshake(); err != nil {
		panic(err)
	}
	server.on = true
	_, _ = s.Write(make([]byte, 1500))
	return server.records
}

func main() { fmt.Printf("by default %d, without dynamic sizes %d", records(false), records(true)) }
GO
go mod init finding >/dev/null 2>&1
expect "records of one Write of 1,500 octets" "by default 2, without dynamic sizes 1" "$(go run .)"

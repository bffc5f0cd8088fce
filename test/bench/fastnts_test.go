package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"timeball/internal/ntske"
	"timeball/internal/siv"
	"timeball/test/peers"
)

const fieldsOn = "fast_path: {interfaces: [cable0], mode: native, fields: true}"

// BenchmarkFastPathNTS compares what timeball answers with NTS past the kernel's UDP with its
// sockets and with chronyd: a rig for each, a slice of each in turn; AEAD 15, which both have.
func BenchmarkFastPathNTS(b *testing.B) {
	lab := peers.NewLab(b)
	a := peers.NewAuthority(b)
	serve := func(name, more string) *driven {
		return withNTSLoad(b, a, onRig(b, lab, name, true, func(r *rig) *contender {
			certificate, key := a.Issue(r.server, "127.0.0.1")
			nts := fmt.Sprintf("nts: {listen: [\"127.0.0.1:4460\"], certificate: %s, key: %s, keys: %s/nts-keys}", certificate, key, r.server.Dir)
			return startTimeball(b, r.server, "timeball", r.port, nts+"\n  "+more)
		}))
	}
	chronyd := withNTSLoad(b, a, onRig(b, lab, "chronyd", true, func(r *rig) *contender {
		certificate, key := a.Issue(r.server, "127.0.0.1")
		env, argv := peers.ChronydCommand(b, r.server, fmt.Sprintf("local stratum 1\nallow all\nport %d\nntsport 4460\nntsserverkey %s\nntsservercert %s", r.port, key, certificate))
		return start(b, r.server, "chronyd", r.port, env, argv...)
	}))
	servers := []*driven{chronyd, serve("sockets", ""), serve("fields", fieldsOn)}
	f := make(figures)
	b.ResetTimer()
	for range b.N {
		for range *rounds {
			saturate(b, servers, f)
		}
	}
	b.StopTimer()
	fmt.Printf("\n%-8s %10s %10s %10s\n", "server", "replies/s", "us a reply", "other core")
	for _, s := range servers {
		fmt.Printf("%-8s %10.0f %10.2f %10.2f\n", s.name, f.median(s.name, "rate"), f.median(s.name, "core"), f.median(s.name, "other core"))
	}
	for _, s := range servers {
		if f.median(s.name, "invalid") > 0 {
			b.Errorf("%s: %v replies without the time, or of another length", s.name, f.median(s.name, "invalid"))
		}
	}
	judge(b, os.Stdout, "NTS past the kernel's UDP to chronyd: replies a second", f.ratio("fields", "rate", "chronyd", "rate"), ">=", 1.5)
	judge(b, os.Stdout, "NTS past the kernel's UDP to chronyd: by work on the server's core", f.ratio("chronyd", "core", "fields", "core"), ">=", 1.5)
	judge(b, os.Stdout, "NTS past the kernel's UDP to sockets: replies a second", f.ratio("fields", "rate", "sockets", "rate"), ">=", 1)
}

// withNTSLoad has a rig ask its server with NTS.
func withNTSLoad(b *testing.B, a *peers.Authority, s *driven) *driven {
	b.Helper()
	roots, err := ntske.ReadRoots(a.Write(s.rig.server))
	if err != nil {
		b.Fatal(err)
	}
	ask := &ntske.Ask{Address: netip.MustParseAddrPort("127.0.0.1:4460"), Name: "127.0.0.1", Roots: roots, Now: time.Now(), Algorithms: []siv.Algorithm{siv.AESSIVCMAC256}}
	var result *ntske.Result
	if err := s.rig.server.Inside(func() (err error) { result, err = ntske.Exchange(context.Background(), ask); return err }); err != nil {
		b.Fatalf("%s: %v", s.name, err)
	}
	load := Load{Kind: KindNTS, NTS: NTS{Secrets: result.Secrets, Cookie: result.Cookies[0]}}
	slots, err := newSlots(readyRequests, load)
	if err != nil {
		b.Fatal(err)
	}
	var requests [][]byte
	for i := range slots {
		requests = append(requests, slots[i].request)
	}
	if err := s.rig.ready(requests); err != nil {
		b.Skip(err)
	}
	return s
}

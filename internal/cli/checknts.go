package cli

import (
	"fmt"
	"os"
	"strings"
	"time"

	"timeball/internal/config"
	"timeball/internal/ntske"
)

// ntsWarnings are what is wrong with the files that NTS rests on, as `run` would find them
// on this machine.
func ntsWarnings(cfg *config.Config, now time.Time) (list []string) {
	warn := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for i := range cfg.Sources {
		n := cfg.Sources[i].NTS
		if n == nil {
			continue
		}
		if n.CA == "" {
			if err := ntske.SystemRoots(); err != nil {
				warn("sources[%d].nts: %v; every key exchange would fail", i, err)
			}
		} else if _, err := ntske.ReadRoots(n.CA); err != nil {
			warn("sources[%d].nts.ca: %v; every key exchange would fail", i, err)
		}
	}
	if cfg.Server == nil || cfg.Server.NTS == nil {
		return list
	}
	n := cfg.Server.NTS
	if info, err := os.Stat(n.Key); err == nil && info.Mode().Perm()&0o007 != 0 {
		warn("server.nts.key: others can use %s (mode %04o); run chmod o= on it", n.Key, info.Mode().Perm())
	}
	if info, err := os.Stat(n.Keys); err == nil && info.Mode().Perm()&0o077 != 0 {
		warn("server.nts.keys: others can read %s (mode %04o), so it would not be used; run chmod 600 on it", n.Keys, info.Mode().Perm())
	}
	certificates, err := ntske.NewCertificates(n.Certificate, n.Key)
	if err != nil {
		warn("server.nts: %v; `timeball run` would refuse it", err)
		return list
	}
	leaf := certificates.Leaf()
	switch {
	case now.After(leaf.NotAfter):
		warn("server.nts.certificate: %s has expired on %s; renew it", n.Certificate, leaf.NotAfter.Format(time.DateOnly))
	case leaf.NotAfter.Sub(now) < expiresSoon:
		warn("server.nts.certificate: %s expires on %s; renew it", n.Certificate, leaf.NotAfter.Format(time.DateOnly))
	case now.Before(leaf.NotBefore):
		warn("server.nts.certificate: %s is not valid before %s", n.Certificate, leaf.NotBefore.Format(time.DateOnly))
	}
	if leaf.IsCA {
		warn("server.nts.certificate: %s is an authority's own; some clients (ntpd-rs) refuse it as a server's: make one that it signs, see docs/nts.md", n.Certificate)
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		warn("server.nts.certificate: %s is for no name (subjectAltName), so no client takes it", n.Certificate)
	} else if name := ownName(n); name != "" && leaf.VerifyHostname(name) != nil {
		warn("server.nts.certificate: %s is for %s, not for %s", n.Certificate, strings.Join(namesOf(leaf.DNSNames, leaf.IPAddresses), " "), name)
	}
	return list
}

// ownName is the name that clients probably use: this machine's, if it is a whole one.
func ownName(n *config.NTSServer) string {
	if n.NTPServer != "" {
		return "" // the key exchange may go by any name
	}
	name, err := os.Hostname()
	if err != nil || !strings.Contains(name, ".") {
		return ""
	}
	return name
}

func namesOf[T fmt.Stringer](names []string, addresses []T) []string {
	all := append([]string(nil), names...)
	for _, a := range addresses {
		all = append(all, a.String())
	}
	return all
}

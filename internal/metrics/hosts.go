package metrics

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// hostNames are the names by which the pages for people may be asked for.
type hostNames map[string]bool

func knownHosts(names []string) hostNames {
	known := hostNames{"localhost": true}
	for _, name := range names {
		known[canonicalHost(name)] = true
	}
	return known
}

// canonicalHost is a Host header without its port, brackets and final dot, in lower case.
func canonicalHost(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// knows reports whether a request names us by a known name or by an address. No name at
// all is what no browser sends.
func (h hostNames) knows(host string) bool {
	name := canonicalHost(host)
	if _, err := netip.ParseAddr(name); err == nil || name == "" {
		return true
	}
	return h[name] || strings.HasSuffix(name, ".localhost")
}

// only lets requests through that name us by a known name.
func (h hostNames) only(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.knows(r.Host) {
			text := fmt.Sprintf("This page is not served under the name %q. Ask by address, or add the name to metrics.hosts.", canonicalHost(r.Host))
			http.Error(w, text, http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

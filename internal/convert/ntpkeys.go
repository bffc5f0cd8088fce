package convert

import (
	"slices"
	"strconv"
	"strings"
)

// keyRange reads the words of trustedkey: numbers, and ranges "(8 ... 12)" as ntp.org's
// ntpd has them.
func keyRange(words []string) (ids []uint32) {
	fields := strings.Fields(strings.NewReplacer("(", " ", ")", " ", "...", " ... ").Replace(strings.Join(words, " ")))
	for i, word := range fields {
		id, err := strconv.ParseUint(word, 10, 16)
		if err != nil {
			continue
		}
		if i >= 2 && fields[i-1] == "..." && len(ids) > 0 {
			for next := ids[len(ids)-1] + 1; next < uint32(id); next++ {
				ids = append(ids, next)
			}
		}
		ids = append(ids, uint32(id))
	}
	return ids
}

// trust takes the keys out that no trustedkey names: ntpd answers and believes none of them.
func (n *ntpConf) trust() {
	slices.Sort(n.signed)
	n.signed = slices.Compact(n.signed)
	if !n.trusts {
		return
	}
	n.untrusted = map[uint32]bool{}
	for id := range n.keys {
		if !slices.Contains(n.signed, id) {
			delete(n.keys, id)
			n.untrusted[id] = true
		}
	}
}

// ntpKeys takes the file of keys over.
func ntpKeys(n *ntpConf, l line, _ []string) {
	n.useKeys(l)
	if !n.trusts && len(n.keys) > 0 {
		n.note(l, NoteChanged, "there is no trustedkey, so ntpd trusts none of them; here each is trusted for what names it, and answers to it are signed")
	}
}

func ntpTrustedKey(n *ntpConf, l line, args []string) {
	if len(keyRange(args)) == 0 {
		n.note(l, NoteRefused, "it names no key")
		return
	}
	if len(n.untrusted) > 0 {
		n.note(l, NoteNothing, "only trusted keys are taken over; others are left out: %d", len(n.untrusted))
		return
	}
	n.note(l, NoteNothing, "a key is trusted for the sources that name it, and answers to it are signed")
}

// ntsSetting says what becomes of a setting of NTS without an equal of its own.
func (n *ntpConf) ntsSetting(l line, word string) {
	switch word {
	case "ca":
		n.note(l, NoteNothing, "named as nts.ca of each source with NTS")
	case "cookie":
		n.note(l, NoteNothing, "the keys of cookies are in server.nts.keys, in a format of their own; clients make one new exchange")
	case "mintls", "maxtls", "tlsciphersuites", "tlsecdhcurves", "tlscipherserverpreference":
		n.note(l, NoteNothing, "TLS 1.3 with the suites of the library, as RFC 8915 asks")
	case "aead":
		n.note(l, NoteNothing, "the best algorithm that both sides have is taken; server.nts.aead would bound them")
	default:
		n.note(l, NoteRefused, "ntpd has no such setting of nts")
	}
}

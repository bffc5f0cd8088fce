package config

import "strings"

// Suggest says which of some names is probably meant by a word that is none of them, and
// else lists them.
func Suggest(word string, names []string) string {
	if name := nearest(word, names); name != "" {
		return "did you mean " + name + "?"
	}
	return "write one of " + strings.Join(names, ", ")
}

// nearest gives the name that is probably meant by a word that is none, or "": the
// same but for case, - and _; or a few letters away; or the one it begins.
func nearest(word string, names []string) string {
	if len(word) > 40 {
		return ""
	}
	plain := plainName(word)
	best, least := "", min(2, len(plain)/2)+1
	for _, name := range names {
		other := plainName(name)
		distance := editDistance(plain, other)
		if distance < least {
			best, least = name, distance
		}
	}
	if best != "" {
		return best
	}
	for _, name := range names {
		if other := plainName(name); len(plain) >= 3 && strings.HasPrefix(other, plain) {
			return name
		}
	}
	return ""
}

// plainName is a name as a hurried hand writes it.
func plainName(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(name), "_", ""), "-", "")
}

// editDistance is the number of letters to insert, remove, replace or swap with the
// next to make b of a (optimal string alignment).
func editDistance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}

// pathOfKey gives the first path of the schema that ends in this key, or the one that
// does what another daemon calls so, or "".
func pathOfKey(key string) string {
	plain := plainName(key)
	for _, info := range schema {
		if plainName(info.Path[strings.LastIndexByte(info.Path, '.')+1:]) == plain {
			return info.Path
		}
	}
	return elsewhere[plain]
}

// elsewhere maps words of other daemons, as plainName gives them, to paths; it is
// looked up, never ranged over.
var elsewhere = map[string]string{
	"servers": "sources", "pools": "sources", "peers": "sources", "source": "sources",
	"allow": "server.access", "deny": "server.access", "restrict": "server.access",
	"bindaddress": "server.listen", "xleave": "interleaved", "autokey": "nts",
	"makestep": "clock.step", "maxslewrate": "clock.max_slew", "tinker": "clock.panic",
	"leapfile": "clock.leap.file", "leapsectz": "clock.leap.file", "keyfile": "keys",
	"bindcmdaddress": "control.socket", "loglevel": "log.level",
	"ntsservercert": "server.nts.certificate", "ntsserverkey": "server.nts.key",
}

package daemon

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"timeball/internal/association"
	"timeball/internal/ntptime"
	"timeball/internal/nts"
	"timeball/internal/siv"
	"timeball/internal/state"
)

// keptKeys are the files in which keys and cookies of sources outlive the process, one
// each. A file that was read is gone: no cookie is ever used twice, also after a crash.
type keptKeys struct {
	dir string // "": nothing is kept
	log *zap.Logger
}

// Files of sources that never came back at that address, as members of a pool, hold secrets
// that are of no use soon: servers forget the keys of their cookies within weeks.
const (
	keptLongest = 30 * 24 * time.Hour
	keptMost    = 256
)

// tidy removes what is too old, or too much, of what earlier runs have kept; now is by the clock
// of the file system. Nothing else in the folder is touched.
func (k *keptKeys) tidy(now time.Time) {
	if k.dir == "" {
		return
	}
	type file struct {
		path string
		at   time.Time
	}
	var files []file
	entries, _ := os.ReadDir(k.dir) // a folder that is not there has nothing to be removed
	for _, entry := range entries {
		info, err := entry.Info()
		path := filepath.Join(k.dir, entry.Name())
		if err != nil || !info.Mode().IsRegular() || !isKept(path) {
			continue
		}
		files = append(files, file{path, info.ModTime()})
	}
	slices.SortFunc(files, func(a, b file) int { return b.at.Compare(a.at) })
	for i, f := range files {
		if i < keptMost && now.Sub(f.at) < keptLongest {
			continue
		}
		if err := os.Remove(f.path); err != nil {
			k.log.Warn("old NTS keys not removed", zap.Error(err))
		}
	}
}

// isKept reports whether a file is one of ours.
func isKept(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, len(keptHead)+1)
	_, err = io.ReadFull(f, head)
	return err == nil && string(head) == keptHead+"\n"
}

const keptHead = "timeball-nts-source 1"

// path is the file of a source: its name and address, of letters that no path minds.
func (k *keptKeys) path(name string, remote netip.AddrPort) string {
	safe := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}
	return filepath.Join(k.dir, strings.Map(safe, name+"_"+remote.String()))
}

// take gives what was kept of a source and removes it; nil: nothing of use.
func (k *keptKeys) take(name string, remote netip.AddrPort) *association.Keys {
	if k.dir == "" {
		return nil
	}
	path := k.path(name, remote)
	text, err := state.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var keys *association.Keys
	if err == nil {
		keys, err = parseKept(string(text), name)
	}
	if err != nil {
		k.log.Warn("kept NTS keys not used; a key exchange is made", zap.String("file", path), zap.Error(err))
	}
	if err := os.Remove(path); err != nil {
		k.log.Warn("kept NTS keys not used: their file cannot be removed, and cookies are not to be used twice", zap.Error(err))
		return nil
	}
	return keys
}

// keep writes the keys of a source that stops.
func (k *keptKeys) keep(name string, remote netip.AddrPort, keys *association.Keys) error {
	if k.dir == "" {
		return nil
	}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	return state.WriteSecret(k.path(name, remote), []byte(keptText(name, keys)))
}

func keptText(name string, keys *association.Keys) string {
	var b strings.Builder
	n := keys.Secrets.Algorithm.KeySize()
	fmt.Fprintf(&b, "%s\nname %s\nremote %s\naead %d\nc2s %x\ns2c %x\nidentity %d\nexpires %s\n", keptHead, name, keys.Remote,
		uint16(keys.Secrets.Algorithm), keys.Secrets.C2S[:n], keys.Secrets.S2C[:n], keys.Identity, keys.Expires.Time().Format(time.RFC3339))
	for _, cookie := range keys.Cookies {
		fmt.Fprintf(&b, "cookie %x\n", cookie)
	}
	return b.String()
}

// parseKept reads what keptText made for a source of that name. No error quotes a secret.
func parseKept(text, name string) (*association.Keys, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if lines[0] != keptHead {
		return nil, errors.New("it does not begin with " + keptHead)
	}
	keys, named, seen := &association.Keys{}, "", map[string]bool{}
	for i, line := range lines[1:] {
		word, value, _ := strings.Cut(line, " ")
		var err error
		switch {
		case word == "cookie":
			err = addCookie(keys, value)
		case seen[word]:
			err = errors.New("twice")
		case word == "name":
			named = value
		default:
			err = keptField(keys, word, value)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d (%.10s) is malformed", i+2, word)
		}
		seen[word] = true
	}
	if named != name || !seen["cookie"] || !seen["remote"] || !seen["c2s"] || !seen["s2c"] {
		return nil, errors.New("something is missing, or it is another source's")
	}
	return keys, nil
}

// keptField takes the value of a word that stands once.
func keptField(keys *association.Keys, word, value string) (err error) {
	switch word {
	case "remote":
		if keys.Remote, err = netip.ParseAddrPort(value); err == nil && keys.Remote.Port() == 0 {
			err = errors.New("port 0")
		}
	case "aead":
		var number uint64
		number, err = strconv.ParseUint(value, 10, 16)
		keys.Secrets.Algorithm = siv.Algorithm(number)
	case "c2s":
		err = readKey(keys.Secrets.C2S[:], value, keys.Secrets.Algorithm)
	case "s2c":
		err = readKey(keys.Secrets.S2C[:], value, keys.Secrets.Algorithm)
	case "identity":
		keys.Identity, err = strconv.ParseUint(value, 10, 64)
	case "expires":
		var at time.Time
		if at, err = time.Parse(time.RFC3339, value); err == nil && (at.Year() < 1970 || at.Year() > 2200) {
			err = errors.New("year")
		}
		keys.Expires = ntptime.WallOf(at.Truncate(time.Second))
	default:
		err = errors.New("not known")
	}
	return err
}

// addCookie takes a cookie, of which no more than eight are of use.
func addCookie(keys *association.Keys, text string) error {
	cookie, err := hex.DecodeString(text)
	if err != nil || len(cookie) == 0 || len(cookie) > nts.MaxCookie {
		return errors.New("length or digits")
	}
	if len(keys.Cookies) < nts.MaxCookies {
		keys.Cookies = append(keys.Cookies, cookie)
	}
	return nil
}

func readKey(dst []byte, text string, a siv.Algorithm) error {
	if a.KeySize() == 0 || len(text) != 2*a.KeySize() {
		return errors.New("length")
	}
	_, err := hex.Decode(dst, []byte(text))
	return err
}

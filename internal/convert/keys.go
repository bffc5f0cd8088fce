package convert

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// secret is a symmetric key as it is to be written.
type secret struct {
	kind string // as config.KeyTypes has it
	data []byte
}

// keyTable is the keys of a key file, by id.
type keyTable map[uint32]secret

// render writes the file of keys.
func (t keyTable) render() ([]byte, int) {
	ids := make([]uint32, 0, len(t))
	for id := range t {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var text bytes.Buffer
	text.WriteString("# Only the user that timeball runs as may be able to read this file.\n")
	for _, id := range ids {
		fmt.Fprintf(&text, "- {id: %d, type: %s, hex: %q}\n", id, t[id].kind, hex.EncodeToString(t[id].data))
	}
	return text.Bytes(), len(ids)
}

// keyKinds are the names of key types, in chrony's, ntpsec's and ntp.org's files.
var keyKinds = map[string]string{
	"M": "md5", "MD5": "md5", "SHA1": "sha1", "SHA": "sha1", "SHA256": "sha256", "SHA2-256": "sha256", "SHA384": "sha384", "SHA2-384": "sha384",
	"SHA512": "sha512", "SHA2-512": "sha512", "AES128": "aes128-cmac", "AES256": "aes256-cmac", "AES": "aes128-cmac",
	"AES-128": "aes128-cmac", "AES-CMAC": "aes128-cmac", "AES128CMAC": "aes128-cmac", "AES-128-CMAC": "aes128-cmac",
	"AES256CMAC": "aes256-cmac", "AES-256": "aes256-cmac", "AES-256-CMAC": "aes256-cmac", "AES192": "", "SHA224": "", "SHA3-224": "", "RMD160": "",
}

// add takes a key; the reason why not, else "".
func (t keyTable) add(idText, kindName string, data []byte) string {
	id, err := strconv.ParseUint(idText, 10, 32)
	kind, known := keyKinds[strings.ToUpper(kindName)]
	switch {
	case err != nil || id == 0:
		return fmt.Sprintf("%q is no number of a key from 1 to 4294967295", shorten(idText, 20))
	case !known || kind == "":
		return fmt.Sprintf("there are no keys of the type %s", shorten(kindName, 20))
	case len(data) == 0:
		return "it has no secret"
	}
	if want := (map[string]int{"aes128-cmac": 16, "aes256-cmac": 32})[kind]; want != 0 && want != len(data) {
		return fmt.Sprintf("%s needs %d bytes, and it has %d", kind, want, len(data))
	}
	probe := fmt.Sprintf("[{id: %d, type: %s, hex: %q}]", id, kind, hex.EncodeToString(data))
	if err := try("keys", probe); err != nil {
		return "it is not taken: " + err.Error()
	}
	t[uint32(id)] = secret{kind, data}
	return ""
}

// readChronyKeys reads chrony's key file: ID [TYPE] [HEX:|ASCII:]SECRET (chrony.conf(5),
// keyfile); without a type it is MD5.
func (b *builder) readChronyKeys(l line, path string) {
	b.readKeyFile(l, path, func(text string) (fields []string, data []byte, why string) {
		fields = strings.Fields(text)
		if strings.ContainsAny(text[:1], "!;#%") {
			return nil, nil, ""
		}
		switch len(fields) {
		case 2:
			fields = []string{fields[0], "MD5", fields[1]}
		case 3:
		default:
			return nil, nil, "is no line of ID, TYPE and SECRET"
		}
		word := fields[2]
		switch upper := strings.ToUpper(word); {
		case strings.HasPrefix(upper, "HEX:"):
			var err error
			if data, err = hex.DecodeString(word[4:]); err != nil {
				return nil, nil, "its secret is not an even number of hex digits"
			}
		case strings.HasPrefix(upper, "ASCII:"):
			data = []byte(word[6:])
		default:
			data = []byte(word)
		}
		return fields, data, ""
	})
}

// readNTPKeys reads ntpd's key file: ID TYPE SECRET; a secret of over 20 characters is
// hexadecimal (ntp.keys(5)), and # begins a comment anywhere.
func (b *builder) readNTPKeys(l line, path string) {
	b.readKeyFile(l, path, func(text string) (fields []string, data []byte, why string) {
		text, _, _ = strings.Cut(text, "#")
		fields = strings.Fields(text)
		switch {
		case len(fields) == 0:
			return nil, nil, ""
		case len(fields) < 3:
			return nil, nil, "is no line of ID, TYPE and SECRET"
		}
		data = []byte(fields[2])
		if len(data) > 20 {
			var err error
			if data, err = hex.DecodeString(fields[2]); err != nil {
				return nil, nil, "its secret has over 20 characters and is not an even number of hex digits"
			}
		}
		return fields, data, ""
	})
}

// readKeyFile reads a key file line by line. No secret is shown in a note.
func (b *builder) readKeyFile(l line, path string, parse func(string) ([]string, []byte, string)) {
	text, err := b.o.Files.Read(path)
	if err != nil {
		b.keyTrouble = err.Error()
		return
	}
	nr := 0
	for row := range bytes.Lines(text) {
		nr++
		trimmed := strings.TrimSpace(string(row))
		if trimmed == "" {
			continue
		}
		fields, data, why := parse(trimmed)
		if why == "" && fields != nil {
			why = b.keys.add(fields[0], fields[1], data)
		}
		if why != "" {
			b.note(line{path, nr, "(a key)"}, NoteRefused, "%s", why)
		}
	}
}

// key looks a key up that a line names; false: it is not there, and the line is refused.
func (b *builder) key(l line, text string) (string, bool) {
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil || id == 0 {
		b.note(l, NoteRefused, "%q is no number of a key", shorten(text, 20))
		return "", false
	}
	if _, there := b.keys[uint32(id)]; !there && b.untrusted[uint32(id)] {
		b.note(l, NoteRefused, "key %d is in no trustedkey, so ntpd does not use it; name it there, or take key away", id)
		return "", false
	} else if !there {
		b.note(l, NoteRefused, "key %d could not be read, and without it this would be unauthenticated", id)
		return "", false
	}
	b.needsKeys = true
	return strconv.FormatUint(id, 10), true
}

// useKeys names the file of keys, where one is to be written.
func (b *builder) useKeys(l line) {
	switch {
	case b.keyTrouble != "":
		b.note(l, NoteChanged, "its keys are not converted: %s", b.keyTrouble)
	case len(b.keys) == 0:
		b.note(l, NoteNothing, "there are no keys in it, so none are needed")
	case b.o.KeyFile == "":
		b.note(l, NoteChanged, "its %d keys are not converted: say where to write them with --keys FILE", len(b.keys))
	default:
		b.value(l, "keys", quote(b.o.KeyFile))
	}
}

package daemon

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"timeball/internal/association"
	"timeball/internal/ntptime"
	"timeball/internal/nts"
	"timeball/internal/siv"
)

// sampleKeys are keys as a key exchange brings them.
func sampleKeys(a siv.Algorithm, cookies int) *association.Keys {
	keys := &association.Keys{
		Secrets: nts.Secrets{Algorithm: a}, Remote: netip.MustParseAddrPort("[2001:db8::7]:1123"), Identity: 1<<63 + 5,
		Expires: ntptime.WallOf(time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)),
	}
	for i := range a.KeySize() {
		keys.Secrets.C2S[i], keys.Secrets.S2C[i] = byte(i+1), byte(0xa0+i)
	}
	for i := range cookies {
		keys.Cookies = append(keys.Cookies, []byte(strings.Repeat(string(rune('a'+i)), 100)))
	}
	return keys
}

func TestKeptKeysComeBackAsTheyWere(t *testing.T) {
	for _, a := range []siv.Algorithm{siv.AESSIVCMAC256, siv.AESSIVCMAC384, siv.AESSIVCMAC512, siv.AES128GCMSIV} {
		for _, cookies := range []int{1, nts.MaxCookies} {
			want := sampleKeys(a, cookies)
			if got, err := parseKept(keptText("time.example.net", want), "time.example.net"); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%v, %d cookies: got %+v, %v, want %+v", a, cookies, got, err, want)
			}
		}
	}
}

// What was cut short, edited, or is another source's, is no use, and the error tells no secret.
func TestKeptKeysThatAreDamaged(t *testing.T) {
	good := keptText("time.example.net", sampleKeys(siv.AESSIVCMAC256, 2))
	for _, test := range []struct{ name, old, new string }{
		{"no head", keptHead + "\n", ""},
		{"another version", keptHead, "timeball-nts-source 2"},
		{"another source's", "name time.example.net", "name other.example.net"},
		{"no name", "name time.example.net\n", ""},
		{"no address", "remote [2001:db8::7]:1123\n", ""},
		{"an address without a port", "[2001:db8::7]:1123", "2001:db8::7"},
		{"an address of port 0", "]:1123", "]:0"},
		{"an algorithm that is not known", "aead 15", "aead 99"},
		{"an algorithm of longer keys", "aead 15", "aead 17"},
		{"no algorithm", "aead 15\n", ""},
		{"half a key", "c2s 0102", "c2s "},
		{"no key of the client's", "c2s 01", "x2s 01"},
		{"no key of the server's", "s2c a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf\n", ""},
		{"a key not in hexadecimal", "s2c a0a1", "s2c a0zz"},
		{"an algorithm twice", "identity", "aead 16\nidentity"},
		{"a cookie not in hexadecimal", "cookie 61", "cookie 6x"},
		{"an empty cookie", "cookie 61", "cookie \ncookie 61"},
		{"a number beyond its range", "identity 9223372036854775813", "identity 99999999999999999999"},
		{"a time that is none", "expires 2027-03-01", "expires 2027-13-01"},
		{"an empty line", "aead 15", "\naead 15"},
	} {
		text := strings.Replace(good, test.old, test.new, 1)
		if text == good {
			t.Fatalf("%s: changes nothing", test.name)
		}
		keys, err := parseKept(text, "time.example.net")
		if err == nil {
			t.Errorf("%s: got %+v, want an error", test.name, keys)
		} else if strings.Contains(err.Error(), "0102") || strings.Contains(err.Error(), "6161") {
			t.Errorf("%s: the error tells a secret: %v", test.name, err)
		}
	}
	for _, text := range []string{"", "\n", keptHead, keptHead + "\n"} {
		if keys, err := parseKept(text, ""); err == nil {
			t.Errorf("%q: got %+v, want an error", text, keys)
		}
	}
	long := sampleKeys(siv.AESSIVCMAC256, 1)
	long.Cookies[0] = make([]byte, nts.MaxCookie+1)
	if _, err := parseKept(keptText("n", long), "n"); err == nil {
		t.Errorf("a cookie of %d bytes: got no error", nts.MaxCookie+1)
	}
}

// FuzzParseKept gives anything for a file: what is taken, a client can use, and it is
// written as it was read.
func FuzzParseKept(f *testing.F) {
	f.Add(keptText("a", sampleKeys(siv.AESSIVCMAC256, 2)), "a")
	f.Add(keptText("b", sampleKeys(siv.AES128GCMSIV, 8)), "b")
	f.Add(keptHead+"\nname a\nremote 192.0.2.1:123\naead 16\ncookie 00", "a")
	f.Fuzz(func(t *testing.T, text, name string) {
		keys, err := parseKept(text, name)
		if err != nil {
			return
		}
		if err := new(nts.Client).Install(keys.Secrets, keys.Cookies); err != nil {
			t.Errorf("taken, but no client can use it: %v", err)
		}
		again, err := parseKept(keptText(name, keys), name)
		if err != nil || !reflect.DeepEqual(again, keys) {
			t.Errorf("written and read again: got %+v, %v, want %+v", again, err, keys)
		}
	})
}

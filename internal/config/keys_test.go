package config

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

func TestKeysInPlace(t *testing.T) {
	c := mustParse(t, `
keys:
  - {id: 4294967295, type: md5, text: "a #secret: it's"}
  - {id: 3, type: sha384, hex: 1234567890}
  - {id: 2, type: aes256-cmac, hex: 00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff}
  - {id: 1, type: aes128-cmac, text: sixteen letters!}
  - {id: 4, type: sha512, text: 123456}
  - {id: 5, type: sha1, hex: 12e4}
`)
	want := []struct {
		id        uint32
		kind, hex string
	}{
		{1, "aes128-cmac", hex.EncodeToString([]byte("sixteen letters!"))},
		{2, "aes256-cmac", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"},
		{3, "sha384", "1234567890"},
		{4, "sha512", hex.EncodeToString([]byte("123456"))},
		{5, "sha1", "12e4"},
		{4294967295, "md5", hex.EncodeToString([]byte("a #secret: it's"))},
	}
	if len(c.Keys) != len(want) {
		t.Fatalf("got %d keys, want %d", len(c.Keys), len(want))
	}
	for i, k := range c.Keys {
		if k.ID != want[i].id || k.Type != want[i].kind || hex.EncodeToString(k.Secret) != want[i].hex {
			t.Errorf("got key %d %s %x, want %v", k.ID, k.Type, string(k.Secret), want[i])
		}
	}
}

func TestEveryKeyTypeIsTaken(t *testing.T) {
	for _, kind := range KeyTypes {
		length := max(keyLength(kind), 20)
		if keyLength(kind) != 0 {
			length = keyLength(kind)
		}
		text := fmt.Sprintf("keys: [{id: 1, type: %s, hex: %s}]", kind, strings.Repeat("ab", length))
		if c := mustParse(t, text); len(c.Keys) != 1 || c.Keys[0].Type != kind {
			t.Errorf("%s: got %v, want it", kind, c.Keys)
		}
	}
}

// TestKeysNeverPrint prints a key in every way there is.
func TestKeysNeverPrint(t *testing.T) {
	secret := "Tell-Nobody-1234"
	k := Key{ID: 10, Type: "aes128-cmac", Secret: []byte(secret)}
	c := &Config{Keys: []Key{k}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%T"} {
		fmt.Fprintf(&out, verb+"\n", k)
		fmt.Fprintf(&out, verb+"\n", &k)
		fmt.Fprintf(&out, verb+"\n", c)
	}
	for _, encode := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		data, err := encode(c)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(data)
	}
	fmt.Fprintln(&out, k.String(), k.GoString())
	for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), "84 101 108", "VGVsbC1", "54656C6C", "0x54", "1241451541"} {
		if strings.Contains(out.String(), form) {
			t.Errorf("got the secret as %q in the output, want it nowhere", form)
		}
	}
	if got, want := fmt.Sprint(k), "key 10 (aes128-cmac, secret withheld)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestProblemsNeverShowSecrets makes every mistake with a secret at hand.
func TestProblemsNeverShowSecrets(t *testing.T) {
	for _, text := range []string{
		"keys: [{id: 1, type: md5, hex: HUSH}]",
		"keys: [{id: 1, type: aes128-cmac, text: HUSH}]",
		"keys: [{id: 1, type: md5, text: \"HUSH\\n\"}]",
		"keys: [{id: 1, type: md5, hex: \"HUSH\\n\"}]",
		"keys: [{id: 1, type: md5, text: [HUSH]}]",
		"keys: [{id: 1, type: md5, text: {HUSH: 1}}]",
		"keys: [{id: 1, type: md5, text: !x HUSH}]",
		"keys: [{id: 1, type: md5, text: HUSH, hex: HUSH}]",
		"keys: [{id: 0, type: md5, text: HUSH}]",
		"keys: [{id: 1, type: md5, txt: HUSH}]",
		"keys: [HUSH]",
		"keys: [[HUSH]]",
		"keys: [{id: 1, type: md5, text: " + strings.Repeat("HUSH", 100) + "}]",
	} {
		_, problems := Parse("c", []byte(text))
		if len(problems) == 0 {
			t.Errorf("%s: got no problem, want one", text)
		}
		for _, p := range problems {
			if strings.Contains(p.String(), "HUSH") {
				t.Errorf("%s: got %q, want no secret in it", text, p)
			}
		}
	}
}

package ntske

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"slices"
	"strings"
	"testing"

	"timeball/internal/siv"
	"timeball/test/captures"
)

// stream is one direction of a TCP connection.
type stream struct {
	from, to uint32 // addresses and ports, folded
	next     uint32
	data     []byte
}

// streams puts the TCP connections of a capture together, in the order of their segments;
// on one bridge none was lost or came late.
func streams(t *testing.T, name string) []*stream {
	t.Helper()
	file, err := captures.Pcap(name)
	if err != nil {
		t.Fatal(err)
	}
	var list []*stream
	for rest := file[24:]; len(rest) >= 16; {
		n := int(binary.LittleEndian.Uint32(rest[8:]))
		frame := rest[16 : 16+n]
		rest = rest[16+n:]
		if len(frame) < 54 || binary.BigEndian.Uint16(frame[12:]) != 0x0800 || frame[23] != 6 {
			continue
		}
		ip := frame[14:]
		ip = ip[:binary.BigEndian.Uint16(ip[2:])]
		tcp := ip[int(ip[0]&15)*4:]
		from := uint32(ip[15])<<16 | uint32(binary.BigEndian.Uint16(tcp))
		to := uint32(ip[19])<<16 | uint32(binary.BigEndian.Uint16(tcp[2:]))
		sequence, payload := binary.BigEndian.Uint32(tcp[4:]), tcp[int(tcp[12]>>4)*4:]
		if tcp[13]&2 != 0 { // SYN
			list = append(list, &stream{from: from, to: to, next: sequence + 1})
			continue
		}
		for _, s := range slices.Backward(list) {
			if s.from == from && s.to == to {
				if sequence == s.next {
					s.data, s.next = append(s.data, payload...), s.next+uint32(len(payload))
				}
				break
			}
		}
	}
	return list
}

// opener decrypts the records of one direction of TLS 1.3 (RFC 8446 §5.2).
type opener struct {
	aead     cipher.AEAD
	iv       []byte
	sequence uint64
}

func newOpener(t *testing.T, secret []byte) *opener {
	t.Helper()
	h, size := sha256.New, 16
	if len(secret) == sha512.Size384 {
		h, size = sha512.New384, 32
	}
	block, err := aes.NewCipher(trafficKey(t, h, secret, "key", size))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return &opener{aead: aead, iv: trafficKey(t, h, secret, "iv", 12)}
}

// trafficKey is HKDF-Expand-Label of RFC 8446 §7.1 without context.
func trafficKey(t *testing.T, h func() hash.Hash, secret []byte, label string, size int) []byte {
	t.Helper()
	info := append([]byte{0, byte(size), byte(6 + len(label))}, "tls13 "+label+"\x00"...)
	out, err := hkdf.Expand(h, secret, string(info), size)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// open gives the content and its type, false if the record is not under this key.
func (o *opener) open(record []byte) (content []byte, kind byte, ok bool) {
	nonce := bytes.Clone(o.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(o.sequence >> (56 - 8*i))
	}
	plain, err := o.aead.Open(nil, nonce, record[5:], record[:5])
	if err != nil {
		return nil, 0, false
	}
	o.sequence++
	plain = bytes.TrimRight(plain, "\x00")
	return plain[:len(plain)-1], plain[len(plain)-1], true
}

// application gives what a direction says after its handshake.
func application(t *testing.T, s *stream, handshake, traffic []byte) (said []byte) {
	t.Helper()
	keys := []*opener{newOpener(t, handshake), newOpener(t, traffic)}
	for data := s.data; len(data) >= 5; {
		n := 5 + int(binary.BigEndian.Uint16(data[3:]))
		if n > len(data) {
			t.Fatal("a record that is cut short")
		}
		record := data[:n]
		data = data[n:]
		if record[0] != 23 {
			continue // hello and change_cipher_spec, in clear
		}
		content, kind, ok := keys[0].open(record)
		if !ok && len(keys) > 1 {
			keys = keys[1:]
			content, kind, ok = keys[0].open(record)
		}
		if !ok {
			t.Fatalf("a record that no key opens: %x", record[:16])
		}
		if kind == 23 {
			said = append(said, content...)
		}
	}
	return said
}

// TestRecordedKeyExchangesDecode reads what chrony and NTPsec said to each other within
// TLS, by the key logs, record by record; requests are made again byte by byte.
func TestRecordedKeyExchangesDecode(t *testing.T) {
	for _, test := range []struct {
		capture   string
		exchanges int
		cookie    int
		same      bool // the request is what we would send for AEAD 15
	}{
		{"nts-chrony", 1, 100, true}, {"nts-chrony-new", 1, 100, true}, {"nts-nak-chrony", 2, 100, true}, {"nts-ntpsec-server", 1, 104, true},
	} {
		text, err := captures.KeyLog(test.capture)
		if err != nil {
			t.Fatal(err)
		}
		secrets := map[string][]byte{} // by label and client random
		for line := range strings.Lines(string(text)) {
			if words := strings.Fields(line); len(words) == 3 {
				secret, err := hex.DecodeString(words[2])
				if err != nil {
					t.Fatal(err)
				}
				secrets[words[0]+" "+words[1]] = secret
			}
		}
		list, exchanges := streams(t, test.capture), 0
		for _, client := range list {
			if len(client.data) < 43 || client.data[0] != 22 || client.data[5] != 1 {
				continue // no ClientHello: the server's direction
			}
			random := hex.EncodeToString(client.data[11:43])
			i := slices.IndexFunc(list, func(s *stream) bool { return s.from == client.to && s.to == client.from })
			request := application(t, client, secrets["CLIENT_HANDSHAKE_TRAFFIC_SECRET "+random], secrets["CLIENT_TRAFFIC_SECRET_0 "+random])
			answer := application(t, list[i], secrets["SERVER_HANDSHAKE_TRAFFIC_SECRET "+random], secrets["SERVER_TRAFFIC_SECRET_0 "+random])
			asked, err := readRequest(bytes.NewReader(request))
			if err != nil || !asked.ntpv4 || !slices.Equal(asked.algorithms, []siv.Algorithm{siv.AESSIVCMAC256}) {
				t.Errorf("%s: the request %x: got %+v, %v", test.capture, request, asked, err)
			}
			if again := appendRequest(nil, []siv.Algorithm{siv.AESSIVCMAC256}); test.same && !bytes.Equal(request, again) {
				t.Errorf("%s: got the request %x, want as ours, %x", test.capture, request, again)
			}
			got, err := readReply(bytes.NewReader(answer))
			if err != nil || got.algorithm != siv.AESSIVCMAC256 || len(got.cookies) != 8 || len(got.cookies[0]) != test.cookie {
				t.Errorf("%s: the answer %x: got %+v, %v", test.capture, answer, got, err)
			}
			exchanges++
		}
		if exchanges != test.exchanges {
			t.Errorf("%s: got %d key exchanges, want %d", test.capture, exchanges, test.exchanges)
		}
	}
}

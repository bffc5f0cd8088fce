package ntske

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/iotest"
)

// tally counts the records that it is given.
type tally struct{ taken, finished int }

func (c *tally) take(record) error   { c.taken++; return nil }
func (c *tally) finish(record) error { c.finished++; return nil }

// A message that drips in costs no more than one that comes at once: each record is looked at once.
func TestEachRecordIsReadOnce(t *testing.T) {
	var message []byte
	for len(message) < maxMessage-2*recordHead {
		message = appendRecord(message, false, 0x3fff, nil)
	}
	records := len(message) / recordHead
	message = append(message, end...)
	for name, conn := range map[string]io.Reader{
		"at once": bytes.NewReader(message), "byte by byte": iotest.OneByteReader(bytes.NewReader(message)),
	} {
		var c tally
		size, wrong, err := receive(conn, &c)
		if c != (tally{records, 1}) || size != len(message) || wrong != nil || err != nil {
			t.Errorf("%s: got %d of %d records, %d ends, %d of %d bytes, %v, %v", name, c.taken, records, c.finished, size, len(message), wrong, err)
		}
	}
}

// Whatever pieces a message comes in, the same is read.
func TestRecordsComeInAnyPieces(t *testing.T) {
	cookies := joined(appendRecord(nil, false, recordCookie, bytes.Repeat([]byte{1}, 100)), appendRecord(nil, false, recordCookie, bytes.Repeat([]byte{2}, 500)))
	for _, message := range [][]byte{
		joined(protocol, aead, end), joined(aead, end), joined(protocol, protocol, aead, end), joined(protocol, aead), nil,
		joined(protocol, aead, cookies, cookies, end, []byte("more")), joined(appendNumbers(nil, true, recordError, 1), end),
		bytes.Repeat([]byte{0x3f, 0xff, 0, 0}, maxMessage), append([]byte{0x3f, 0xff, 0xff, 0xff}, make([]byte, maxMessage)...),
	} {
		request, requestErr := readRequest(bytes.NewReader(message))
		reply, replyErr := readReply(bytes.NewReader(message))
		for name, pieces := range map[string]func(io.Reader) io.Reader{
			"bytes": iotest.OneByteReader, "halves": iotest.HalfReader, "the end with the last bytes": iotest.DataErrReader,
		} {
			if r, err := readRequest(pieces(bytes.NewReader(message))); !reflect.DeepEqual(r, request) || !reflect.DeepEqual(err, requestErr) {
				t.Errorf("request %.20x of %d bytes in %s: got %+v, %v; want %+v, %v", message, len(message), name, r, err, request, requestErr)
			}
			if r, err := readReply(pieces(bytes.NewReader(message))); !reflect.DeepEqual(r, reply) || !reflect.DeepEqual(err, replyErr) {
				t.Errorf("reply %.20x of %d bytes in %s: got %+v, %v; want %+v, %v", message, len(message), name, r, err, reply, replyErr)
			}
		}
	}
	if _, err := readReply(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want the error of the connection", err)
	}
}

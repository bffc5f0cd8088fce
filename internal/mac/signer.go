package mac

import (
	"crypto/aes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"hash"
)

// longestBuffered is the longest secret and message, in bytes together, for which a
// Signer allocates nothing.
const longestBuffered = 2048

// Signer is the working space of one goroutine for digests: with it nothing is
// allocated for messages of up to MaxMessage bytes. The zero value is ready.
type Signer struct {
	buffer [longestBuffered]byte // secret and message in one piece
	sum    [sha512.Size]byte     // the digest
	chain  [aes.BlockSize]byte   // of a CMAC
}

// MaxMessage is the longest message in bytes that is signed or verified without
// allocation, whatever the key.
const MaxMessage = longestBuffered - maxSecret

// AppendMAC appends a trailer to packet: the key's id, and the first size bytes of
// the digest over all of packet. Size is at most the digest's (see Type.SizeFor).
func (s *Signer) AppendMAC(packet []byte, k *Key, size int) []byte {
	digest := s.digest(k, packet)[:size]
	return append(binary.BigEndian.AppendUint32(packet, k.id), digest...)
}

// Verify reports whether digest is that of message by k, in a time that does not
// depend on where the two differ. A digest whose length is not one of the key's
// type is refused without a look, an empty one (a crypto-NAK) with it.
func (s *Signer) Verify(k *Key, message, digest []byte) bool {
	if k == nil || !k.kind.Accepts(len(digest)) {
		return false
	}
	return subtle.ConstantTimeCompare(s.digest(k, message)[:len(digest)], digest) == 1
}

// digest returns the whole digest; it lives in s until the next call.
func (s *Signer) digest(k *Key, message []byte) []byte {
	if k.block != nil {
		return s.cmac(k, message)
	}
	if len(k.secret)+len(message) > len(s.buffer) {
		return s.stream(k, message)
	}
	n := copy(s.buffer[:], k.secret)
	n += copy(s.buffer[n:], message)
	text := s.buffer[:n]
	switch k.kind {
	case MD5:
		*(*[md5.Size]byte)(s.sum[:]) = md5.Sum(text)
	case SHA1:
		*(*[sha1.Size]byte)(s.sum[:]) = sha1.Sum(text)
	case SHA256:
		*(*[sha256.Size]byte)(s.sum[:]) = sha256.Sum256(text)
	case SHA384:
		*(*[sha512.Size384]byte)(s.sum[:]) = sha512.Sum384(text)
	case SHA512:
		s.sum = sha512.Sum512(text)
	}
	return s.sum[:k.kind.Size()]
}

// stream is digest for what does not fit the buffer; it allocates.
func (s *Signer) stream(k *Key, message []byte) []byte {
	var h hash.Hash
	switch k.kind {
	case MD5:
		h = md5.New()
	case SHA1:
		h = sha1.New()
	case SHA256:
		h = sha256.New()
	case SHA384:
		h = sha512.New384()
	default:
		h = sha512.New()
	}
	h.Write(k.secret)
	h.Write(message)
	return h.Sum(s.sum[:0])
}

package siv

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

const gcmNonceSize = 12

// derive makes the two keys of one nonce (RFC 8452 §4): it prepares the authentication
// key in w.poly and returns the cipher of the encryption key.
func (w *Worker) derive(k *Key, nonce []byte) cipher.Block {
	copy(w.counter[4:], nonce)
	for i := range 4 {
		binary.LittleEndian.PutUint32(w.counter[:], uint32(i))
		k.block.Encrypt(w.pad[:], w.counter[:])
		copy(w.derived[8*i:8*i+8], w.pad[:8])
	}
	w.poly.init(w.derived[:aes.BlockSize])
	message := mustAES(w.derived[aes.BlockSize:])
	w.derived, w.pad = [2 * aes.BlockSize]byte{}, block{}
	return message
}

// gcmTag leaves the tag in w.x (RFC 8452 §4).
func (w *Worker) gcmTag(message cipher.Block, nonce, plaintext []byte, associated [][]byte) {
	var lengths block
	for _, s := range associated {
		w.poly.update(s)
		binary.LittleEndian.PutUint64(lengths[:], uint64(len(s))*8)
	}
	w.poly.update(plaintext)
	binary.LittleEndian.PutUint64(lengths[8:], uint64(len(plaintext))*8)
	w.poly.update(lengths[:])
	w.poly.sum(&w.x)
	subtle.XORBytes(w.x[:gcmNonceSize], w.x[:gcmNonceSize], nonce)
	w.x[15] &= 0x7f
	message.Encrypt(w.x[:], w.x[:])
}

// gcmCounter encrypts or decrypts src into dst by the counter mode that begins at the
// tag in w.x; its first 32 bits count, and wrap (RFC 8452 §4).
func (w *Worker) gcmCounter(message cipher.Block, dst, src []byte) {
	w.counter = w.x
	w.counter[15] |= 0x80
	count := binary.LittleEndian.Uint32(w.counter[:])
	for len(src) > 0 {
		message.Encrypt(w.pad[:], w.counter[:])
		n := subtle.XORBytes(dst, src, w.pad[:min(len(src), aes.BlockSize)])
		dst, src = dst[n:], src[n:]
		count++
		binary.LittleEndian.PutUint32(w.counter[:], count)
	}
	w.pad = block{}
}

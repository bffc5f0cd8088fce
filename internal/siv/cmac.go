package siv

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
)

// maxStrings is how many associated strings S2V takes besides nonce and plaintext (RFC
// 5297 §2.6: 126 in all).
const maxStrings = 124

// initCMAC works out the subkeys of the CMAC (RFC 4493 §2.3), and what S2V begins with.
func (k *Key) initCMAC() {
	k.mac.Encrypt(k.k1[:], k.k1[:]) // L = AES(K, 0)
	double(&k.k1)
	k.k2 = k.k1
	double(&k.k2)
	var w Worker
	w.cmac(k, w.pad[:])
	k.zero = w.x
}

// double multiplies by x in GF(2^128), without a branch on the value (RFC 5297 §2.3).
func double(b *block) {
	const polynomial = 0x87
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	carry := hi >> 63
	binary.BigEndian.PutUint64(b[:8], hi<<1|lo>>63)
	binary.BigEndian.PutUint64(b[8:], lo<<1^carry*polynomial)
}

// cmac leaves the AES-CMAC of message in w.x (RFC 4493 §2.4).
func (w *Worker) cmac(k *Key, message []byte) {
	w.x = block{}
	w.absorb(k, w.chain(k, message))
}

// chain runs the CBC-MAC over all of message but its last 1 to 16 bytes, which it
// returns (none of an empty one).
func (w *Worker) chain(k *Key, message []byte) (last []byte) {
	x := w.x[:]
	for len(message) > aes.BlockSize {
		xorBlock(&w.x, (*block)(message))
		k.mac.Encrypt(x, x)
		message = message[aes.BlockSize:]
	}
	return message
}

// xorBlock is subtle.XORBytes for whole blocks, without its price for short ones.
func xorBlock(x, y *block) {
	binary.LittleEndian.PutUint64(x[:8], binary.LittleEndian.Uint64(x[:8])^binary.LittleEndian.Uint64(y[:8]))
	binary.LittleEndian.PutUint64(x[8:], binary.LittleEndian.Uint64(x[8:])^binary.LittleEndian.Uint64(y[8:]))
}

// absorb takes the last block in: masked by the first subkey if it is whole, else padded
// and masked by the second.
func (w *Worker) absorb(k *Key, last []byte) {
	if len(last) == aes.BlockSize {
		xorBlock(&w.x, (*block)(last))
		xorBlock(&w.x, &k.k1)
	} else {
		subtle.XORBytes(w.x[:], w.x[:], last)
		w.x[len(last)] ^= 0x80
		xorBlock(&w.x, &k.k2)
	}
	k.mac.Encrypt(w.x[:], w.x[:])
}

// s2v leaves in w.x the synthetic vector over the associated strings, the nonce unless
// it is empty, and the plaintext (RFC 5297 §2.4).
func (w *Worker) s2v(k *Key, nonce, plaintext []byte, associated [][]byte) {
	w.d = k.zero
	for _, s := range associated {
		w.string(k, s)
	}
	if len(nonce) > 0 {
		w.string(k, nonce)
	}
	w.x = block{}
	switch n := len(plaintext); {
	case n < aes.BlockSize: // T = dbl(D) xor pad(Sn)
		double(&w.d)
		subtle.XORBytes(w.d[:], w.d[:], plaintext)
		w.d[n] ^= 0x80
		w.absorb(k, w.d[:])
	case n == aes.BlockSize:
		xorBlock(&w.d, (*block)(plaintext))
		w.absorb(k, w.d[:])
	default: // T = Sn xorend D: D lies across the last two blocks
		w.xorEnd(k, plaintext)
	}
}

// string mixes one associated string into w.d.
func (w *Worker) string(k *Key, s []byte) {
	double(&w.d)
	w.cmac(k, s)
	xorBlock(&w.d, &w.x)
}

// xorEnd is the CMAC of plaintext, longer than a block, with w.d xored to its end.
func (w *Worker) xorEnd(k *Key, plaintext []byte) {
	whole := (len(plaintext) - aes.BlockSize) / aes.BlockSize * aes.BlockSize // bytes that D does not touch
	x := w.x[:]
	for i := 0; i < whole; i += aes.BlockSize {
		xorBlock(&w.x, (*block)(plaintext[i:]))
		k.mac.Encrypt(x, x)
	}
	var end [2 * aes.BlockSize]byte // 16 to 31 bytes
	n := copy(end[:], plaintext[whole:])
	subtle.XORBytes(end[n-aes.BlockSize:n], end[n-aes.BlockSize:n], w.d[:])
	if n > aes.BlockSize {
		subtle.XORBytes(x, x, end[:aes.BlockSize])
		k.mac.Encrypt(x, x)
		w.absorb(k, end[aes.BlockSize:n])
		return
	}
	w.absorb(k, end[:n])
}

// sivCounter encrypts or decrypts src into dst by the counter mode that begins at the
// vector in w.x, two bits of which are cleared (RFC 5297 §2.5).
func (w *Worker) sivCounter(k *Key, dst, src []byte) {
	w.counter = w.x
	w.counter[8] &= 0x7f
	w.counter[12] &= 0x7f
	low := binary.BigEndian.Uint64(w.counter[8:])
	for ; len(src) >= aes.BlockSize; dst, src = dst[aes.BlockSize:], src[aes.BlockSize:] {
		k.block.Encrypt(w.pad[:], w.counter[:])
		xorBlock(&w.pad, (*block)(src))
		*(*block)(dst) = w.pad
		low++
		binary.BigEndian.PutUint64(w.counter[8:], low)
	}
	if len(src) > 0 {
		k.block.Encrypt(w.pad[:], w.counter[:])
		subtle.XORBytes(dst, src, w.pad[:len(src)])
	}
	w.pad = block{}
}

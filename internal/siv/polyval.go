package siv

import (
	"encoding/binary"
	"math/bits"
)

// polyval is the universal hash of RFC 8452 §3, over GF(2^128) with the least bit first.
// It takes the same time whatever the data: there are no tables.
type polyval struct{ h, s element }

// element is a polynomial over GF(2); bit i of lo is the coefficient of x^i.
type element struct{ lo, hi uint64 }

func (p *polyval) init(key []byte) {
	p.h = element{binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[8:])}
	p.s = element{}
}

// update takes data in, padded with zeros to whole blocks.
func (p *polyval) update(data []byte) {
	for ; len(data) >= 16; data = data[16:] {
		p.block(binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint64(data[8:]))
	}
	if len(data) > 0 {
		var last block
		copy(last[:], data)
		p.block(binary.LittleEndian.Uint64(last[:]), binary.LittleEndian.Uint64(last[8:]))
	}
}

func (p *polyval) block(lo, hi uint64) {
	p.s = dot(element{p.s.lo ^ lo, p.s.hi ^ hi}, p.h)
}

func (p *polyval) sum(out *block) {
	binary.LittleEndian.PutUint64(out[:], p.s.lo)
	binary.LittleEndian.PutUint64(out[8:], p.s.hi)
}

// dot is a·b·x^−128 modulo x^128 + x^127 + x^126 + x^121 + 1 (RFC 8452 §3): the product
// by Karatsuba's three multiplications, then the lower half folded up.
func dot(a, b element) element {
	loHi, loLo := multiply(a.lo, b.lo)
	hiHi, hiLo := multiply(a.hi, b.hi)
	midHi, midLo := multiply(a.lo^a.hi, b.lo^b.hi)
	midHi, midLo = midHi^loHi^hiHi, midLo^loLo^hiLo
	v0, v1, v2, v3 := loLo, loHi^midLo, hiLo^midHi, hiHi
	v1 ^= v0<<63 ^ v0<<62 ^ v0<<57
	v2 ^= v0 ^ v0>>1 ^ v0>>2 ^ v0>>7
	v2 ^= v1<<63 ^ v1<<62 ^ v1<<57
	v3 ^= v1 ^ v1>>1 ^ v1>>2 ^ v1>>7
	return element{v2, v3}
}

// multiply is the product of two polynomials of 64 coefficients. The upper half is the
// lower half of the product of the mirrored ones, mirrored.
func multiply(a, b uint64) (hi, lo uint64) {
	return bits.Reverse64(lower(bits.Reverse64(a), bits.Reverse64(b))) >> 1, lower(a, b)
}

// lower is the lower half of a product without carries. Each factor is split in four of
// every fourth bit: in an ordinary product of two of those no carry reaches the next
// bit that counts, since at most 16 meet in one place.
func lower(a, b uint64) uint64 {
	const m0, m1, m2, m3 = 0x1111111111111111, 0x2222222222222222, 0x4444444444444444, 0x8888888888888888
	a0, a1, a2, a3 := a&m0, a&m1, a&m2, a&m3
	b0, b1, b2, b3 := b&m0, b&m1, b&m2, b&m3
	return (a0*b0^a1*b3^a2*b2^a3*b1)&m0 |
		(a0*b1^a1*b0^a2*b3^a3*b2)&m1 |
		(a0*b2^a1*b1^a2*b0^a3*b3)&m2 |
		(a0*b3^a1*b2^a2*b1^a3*b0)&m3
}

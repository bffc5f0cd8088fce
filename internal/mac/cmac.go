package mac

import (
	"crypto/aes"
	"crypto/subtle"
)

// initCMAC prepares the block cipher and the two subkeys (RFC 4493 §2.3).
func (k *Key) initCMAC(secret []byte) error {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return err
	}
	k.block = block
	block.Encrypt(k.k1[:], k.k1[:]) // L = AES(K, 0)
	double(&k.k1)
	k.k2 = k.k1
	double(&k.k2)
	return nil
}

// double multiplies by x in GF(2^128), without a branch on the value (RFC 4493 §2.3).
func double(b *[aes.BlockSize]byte) {
	const polynomial = 0x87
	carry := b[0] >> 7
	for i := range aes.BlockSize - 1 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[aes.BlockSize-1] = b[aes.BlockSize-1]<<1 ^ carry*polynomial
}

// cmac works the AES-CMAC out (RFC 4493 §2.4): a CBC-MAC whose last block is masked
// by the first subkey if it is whole, else padded and masked by the second.
func (s *Signer) cmac(k *Key, message []byte) []byte {
	x := s.chain[:]
	clear(x)
	for len(message) > aes.BlockSize {
		subtle.XORBytes(x, x, message[:aes.BlockSize])
		k.block.Encrypt(x, x)
		message = message[aes.BlockSize:]
	}
	subtle.XORBytes(x, x, message)
	if len(message) == aes.BlockSize {
		subtle.XORBytes(x, x, k.k1[:])
	} else {
		x[len(message)] ^= 0x80
		subtle.XORBytes(x, x, k.k2[:])
	}
	k.block.Encrypt(x, x)
	return x
}

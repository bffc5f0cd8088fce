package state

// maxSecrets bounds a file of secrets in bytes.
const maxSecrets = 1 << 20

// ReadSecret reads a file that only its owner may read, such as the keys of NTS cookies.
// The error is fs.ErrNotExist where there is none.
func ReadSecret(path string) ([]byte, error) { return contents(path, maxSecrets, 0o077) }

// WriteSecret replaces a file that only its owner may read, as a whole or not at all.
func WriteSecret(path string, text []byte) error { return replace(path, string(text), 0o600) }

package cli

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"timeball/internal/config"
)

func newKeygen() *cobra.Command {
	var id uint32
	var kind, file string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a symmetric key for a key file",
		Long: "Make a symmetric key of random bytes and print it as an entry of a key file. With\n" +
			"--file a new file is made that only its owner can read; an existing one is not touched.",
		Example: "  timeball keygen --id 10 --file /etc/timeball/keys.yaml",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			entry, err := newKeyEntry(id, kind)
			if err != nil {
				return usageError{err}
			}
			if file == "" {
				_, err = io.WriteString(cmd.OutOrStdout(), entry)
				return err
			}
			return writeKeyFile(file, entry)
		},
	}
	cmd.Flags().Uint32Var(&id, "id", 1, "key id, 1 to 4294967295")
	cmd.Flags().StringVar(&kind, "type", "aes128-cmac", "md5, sha1, sha256, sha384, sha512, aes128-cmac or aes256-cmac")
	cmd.Flags().StringVar(&file, "file", "", "write a new key `FILE` with mode 0600")
	return cmd
}

// secretSizes is how many random bytes a key of each type gets: those of the
// cipher's key, or of the digest.
var secretSizes = map[string]int{
	"md5": 16, "sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64, "aes128-cmac": 16, "aes256-cmac": 32,
}

// newKeyEntry makes one line of a key file.
func newKeyEntry(id uint32, kind string) (string, error) {
	size, known := secretSizes[kind]
	switch {
	case !known:
		return "", fmt.Errorf("key type %q is not known; see timeball keygen --help", kind)
	case id == 0:
		return "", errors.New("key id 0 means no key; give one from 1 on")
	}
	secret := make([]byte, size)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	return fmt.Sprintf("- {id: %d, type: %s, hex: %s}\n", id, kind, hex.EncodeToString(secret)), nil
}

// writeKeyFile makes a new file that config.LoadKeys takes.
func writeKeyFile(path, entry string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists; leave out --file and add the line that is printed to it yourself", path)
	}
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	if _, err := file.WriteString(entry); err != nil {
		return errors.Join(fmt.Errorf("key file: %w", err), file.Close())
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	_, err = config.LoadKeys(path)
	return err
}

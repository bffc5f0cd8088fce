package convert

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Disk finds files below a folder, "" for the root of the file system: the configuration
// of an image, or of another machine's copy, names its files as that machine sees them.
type Disk struct{ Root string }

func (d Disk) path(path string) string {
	if d.Root == "" {
		return path
	}
	return filepath.Join(d.Root, path)
}

// Read implements Files. The error says what to do, behind the file's name.
func (d Disk) Read(path string) ([]byte, error) {
	file, err := os.Open(d.path(path))
	if err != nil {
		return nil, because(path, err)
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a folder; name the file in it", path)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, because(path, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes; that is no configuration", path, maxFile)
	}
	return data, nil
}

func because(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s cannot be read: permission denied", path)
	}
	if fault := (*fs.PathError)(nil); errors.As(err, &fault) {
		err = fault.Err
	}
	return fmt.Errorf("%s cannot be read: %w", path, err)
}

// Glob implements Files.
func (d Disk) Glob(pattern string) []string {
	found, err := filepath.Glob(d.path(pattern))
	if err != nil {
		return nil
	}
	if d.Root != "" {
		for i := range found {
			found[i] = "/" + strings.TrimLeft(strings.TrimPrefix(found[i], filepath.Clean(d.Root)), "/")
		}
	}
	return found
}

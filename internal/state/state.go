// Package state keeps what must outlast the process in small files that people can
// read: the drift file, the panic gate and the last known time. A file is replaced as
// a whole or not at all; one that is missing, corrupt, too large, a symbolic link or
// no file at all is never believed, and never harms: the reader gets one error to log.
package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxSize bounds what is read; the files have under 200 bytes.
const maxSize = 4096

// field is one line of a state file.
type field struct{ key, value string }

// write replaces path atomically: a new file beside it (O_EXCL and O_NOFOLLOW, so that
// nothing planted there is followed), flushed, then renamed over it. The directory is
// flushed too, so that a crash leaves the old file or the new one. Disk full, read-only
// or a missing directory leave the old file whole.
func write(path, comment string, fields []field) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", comment)
	for _, f := range fields {
		fmt.Fprintf(&b, "%s: %s\n", f.key, f.value)
	}
	return replace(path, b.String(), 0o644)
}

// replace is write for any text, in a file of that mode.
func replace(path, text string, mode fs.FileMode) error {
	dir, base := filepath.Split(path)
	temporary := filepath.Join(dir, "."+base+".new")
	// What a killed process left here would be in the way of O_EXCL for ever.
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear the way for a new %s: %w", base, err)
	}
	if err := create(temporary, text, mode); err != nil {
		os.Remove(temporary)
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temporary, path); err != nil {
		os.Remove(temporary)
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return syncDirectory(dir)
}

// Usable says what is wrong with a folder that state files are to be kept in, for the user that
// asks; nil: nothing.
func Usable(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist, so nothing is kept there; make it (systemd does, by StateDirectory=)", dir)
	case err != nil:
		return fmt.Errorf("%w, so nothing is kept there", err)
	case !info.IsDir():
		return fmt.Errorf("%s is no folder, so nothing is kept there; name another", dir)
	}
	const writable, reachable = 2, 1 // W_OK, X_OK of access(2)
	if err := syscall.Access(dir, writable|reachable); err != nil {
		return fmt.Errorf("%s cannot be written to (%w), so nothing is kept there; mount or name another", dir, err)
	}
	return nil
}

func create(path, text string, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDirectory makes a rename last. Some file systems cannot; the rename stands anyway.
func syncDirectory(dir string) error {
	if dir == "" {
		dir = "."
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("flush the directory %s: %w", dir, err)
	}
	return nil
}

// read returns the fields of path. The error is fs.ErrNotExist where there is no
// file, and says what is wrong with one that cannot be believed.
func read(path string) (map[string]string, error) {
	b, err := contents(path, maxSize, 0)
	if err != nil {
		return nil, err
	}
	fields, err := parse(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w; ignored", path, err)
	}
	return fields, nil
}

// contents reads a file of at most limit bytes. One with permission bits that are
// forbidden is not believed.
func contents(path string, limit int64, forbidden fs.FileMode) ([]byte, error) {
	// O_NONBLOCK: a pipe in the file's place must not hold us up.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link; ignored, remove it", path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file; ignored, remove it", path)
	}
	if info.Mode()&forbidden != 0 {
		return nil, fmt.Errorf("%s may be read by others than its owner (mode %04o); ignored, run chmod 600 on it", path, info.Mode().Perm())
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d; ignored", path, info.Size(), limit)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

// parse reads "key: value" lines; empty ones and those that begin with # say nothing.
func parse(text string) (map[string]string, error) {
	fields := make(map[string]string)
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("line %d is not \"key: value\"", i+1)
		}
		if _, twice := fields[key]; twice {
			return nil, fmt.Errorf("line %d: %q stands there twice", i+1, key)
		}
		fields[key] = strings.TrimSpace(value)
	}
	return fields, nil
}

// number returns the value of a key between least and most. Not a number, NaN and
// infinity are errors.
func number(fields map[string]string, key string, least, most float64) (float64, error) {
	text, ok := fields[key]
	if !ok {
		return 0, fmt.Errorf("%q is missing", key)
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a number", key, text)
	}
	if !(v >= least && v <= most) {
		return 0, fmt.Errorf("%s: %s is not between %g and %g", key, text, least, most)
	}
	return v, nil
}

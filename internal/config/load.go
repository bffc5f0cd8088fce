package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"gopkg.in/yaml.v3"
)

// The only file of this package that touches files.

// opener opens a file for reading: os.Open, or a test's own.
type opener func(path string) (fs.File, error)

func openFile(path string) (fs.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err // a nil *os.File would be a file that is not nil
	}
	return file, nil
}

// Load reads a configuration and its key file. The error is a Problems with all
// that is wrong; without one the warnings tell the traps.
func Load(path string) (*Config, Warnings, error) { return load(path, openFile) }

func load(path string, open opener) (*Config, Warnings, error) {
	data, info, err := read(path, open)
	if err != nil {
		return nil, nil, fileProblem(path, err)
	}
	d := parse(path, data)
	if info.Mode().IsRegular() {
		d.mode = info.Mode().Perm()
		if folder, err := os.Stat(filepath.Dir(path)); err == nil {
			d.folder = folder.Mode()
		}
	}
	d.include(open, filepath.Glob)
	return d.load(open)
}

// maxDropIns bounds the files that are included.
const maxDropIns = 256

// include reads the drop-ins: sources from elsewhere, in the order of the patterns and of
// their names. A pattern that nothing matches is no fault: what writes drop-ins may come
// and go.
func (d *draft) include(open opener, glob func(string) ([]string, error)) {
	count := 0
	for _, pattern := range d.config.Include {
		files, _ := glob(pattern) // the pattern has been checked; the files come sorted
		for _, file := range files {
			if count++; count > maxDropIns {
				d.report("include", "more than %d files; put the sources of several into one", maxDropIns)
				return
			}
			d.dropIn(file, open)
		}
	}
	d.config.startPathsAt(filepath.Dir(d.file))
}

// dropIn reads the sources of one file.
func (d *draft) dropIn(file string, open opener) {
	d.included = file
	defer func() { d.included = "" }()
	data, info, err := read(file, open)
	if err != nil {
		d.reportAt(nil, "", "%s", err)
		return
	}
	if info.Mode().Perm()&0o002 != 0 {
		d.warnings = append(d.warnings, d.problemAt(nil, "", "everybody may write this file and so set the clock; run chmod o-w on it"))
	}
	root := d.document(data)
	if root == nil || isNull(root) {
		return
	}
	top := d.places[""]
	defer func() { d.places[""] = top }()
	at, ok := d.enter(root, "")
	if !ok {
		return
	}
	d.first = len(d.config.Sources)
	defer func() { d.first = 0 }()
	sources := d.places["sources"]
	d.decodeDropIn(at)
	if sources != nil {
		d.places["sources"] = sources
	}
}

// decodeDropIn walks the tree of a drop-in, which may hold sources and nothing else.
func (d *draft) decodeDropIn(at place) {
	for _, p := range d.mapping(at, "sources: [{server: time.example.net}]") {
		if p.name != "sources" {
			d.reportAt(p.key, p.name, "cannot stand in an included file; only sources can")
			continue
		}
		if row, ok := d.enter(p.value, "sources"); ok {
			sourceList.decode(d.decoder, row, d.config)
		}
	}
}

// load reads the key file, if there is one, and finishes the draft.
func (d *draft) load(open opener) (*Config, Warnings, error) {
	if name := d.config.KeyFile; name != "" {
		keys := newDecoder(name)
		d.config.Keys = keys.readKeys(open)
		d.keyIDs = keys.keyIDs
		for _, p := range keys.problems {
			if p.Line == 0 { // the file itself: the line that names it tells more
				d.report("keys", "%s %s", name, p.Message)
				continue
			}
			d.problems = append(d.problems, p)
		}
	}
	c, problems := d.finish()
	if len(problems) > 0 {
		return nil, nil, Problems(problems)
	}
	warnings := d.warn()
	for _, i := range slices.Backward(d.doubled) { // now that no path is needed any more
		c.Sources = slices.Delete(c.Sources, i, i+1)
	}
	return c, warnings, nil
}

// SocketOf is the control socket that a file names, "" where it names none or cannot be
// read. The file need not be good: it is how a daemon is found that is to be asked to
// read it.
func SocketOf(path string) string {
	data, _, err := read(path, openFile)
	if err != nil {
		return ""
	}
	var file struct {
		Control struct {
			Socket string `yaml:"socket"`
		} `yaml:"control"`
	}
	_ = yaml.Unmarshal(data, &file) // what was understood counts
	if socket := file.Control.Socket; socket == "" || filepath.IsAbs(socket) {
		return socket
	}
	return filepath.Join(filepath.Dir(path), file.Control.Socket)
}

// LoadKeys reads a file of keys: a YAML list of {id, type, hex} or {id, type, text},
// that is private (see private). The error is a Problems.
func LoadKeys(path string) ([]Key, error) {
	d := newDecoder(path)
	keys := d.readKeys(openFile)
	if len(d.problems) > 0 {
		for i := range d.problems {
			d.problems[i].Line, d.problems[i].Column = max(d.problems[i].Line, 1), max(d.problems[i].Column, 1)
		}
		sortProblems(d.problems)
		return nil, Problems(d.problems)
	}
	return keys, nil
}

// readKeys reads the key file. A problem with the file itself has the line 0, and
// leaves the ids unknown.
func (d *decoder) readKeys(open opener) []Key {
	data, info, err := read(d.file, open)
	if err == nil && !private(info) {
		err = fmt.Errorf("can be read by others (mode %04o); run chmod 600 %s", info.Mode().Perm(), d.file)
	}
	if err != nil {
		d.problems = append(d.problems, Problem{File: d.file, Message: err.Error()})
		return nil
	}
	root := d.document(data)
	if len(d.problems) > 0 {
		return nil
	}
	if root == nil {
		root = &yaml.Node{Kind: yaml.SequenceNode, Line: 1, Column: 1}
	}
	at, ok := d.enter(root, "keys")
	if !ok {
		return nil
	}
	return d.keys(at)
}

// private reports whether nobody but this process's user and group can read a file of keys.
// Its group may where it must: a container gets its secrets from somebody else, as mode 0440
// of a group that it is given (Kubernetes' fsGroup).
func private(info fs.FileInfo) bool {
	mode := info.Mode().Perm()
	if mode&0o077 == 0 {
		return true
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if !known || mode&0o037 != 0 || !inGroup(int(owner.Gid)) {
		return false
	}
	return mode&0o200 == 0 || int(owner.Uid) != os.Geteuid() // whose file it is can make it private
}

// inGroup reports whether this process is of a group.
func inGroup(group int) bool {
	if group == os.Getegid() {
		return true
	}
	groups, err := os.Getgroups()
	return err == nil && slices.Contains(groups, group)
}

// fileProblem is the error of a file that could not be read.
func fileProblem(path string, err error) error {
	return Problems{{File: path, Line: 1, Column: 1, Message: err.Error()}}
}

// read reads a file, but no more than MaxSize and one byte of it. Its error begins
// behind the file's name.
func read(path string, open opener) ([]byte, fs.FileInfo, error) {
	file, err := open(path)
	if err != nil {
		return nil, nil, explain(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, explain(err)
	}
	switch {
	case info.IsDir():
		return nil, nil, errors.New("is a directory; name a file in it")
	case info.Mode().IsRegular() && info.Size() > MaxSize:
		return nil, nil, fmt.Errorf("has %d bytes, and up to %d are read; this is not a configuration of timeball", info.Size(), MaxSize)
	}
	data, err := io.ReadAll(io.LimitReader(file, MaxSize+1))
	if err != nil {
		return nil, nil, explain(err)
	}
	return data, info, nil
}

// explain says in words why a file cannot be read.
func explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("does not exist; make it, or give the right name")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("cannot be read: permission denied; run as its owner, or change its mode")
	}
	if fault := new(fs.PathError); errors.As(err, &fault) {
		err = fault.Err // the name stands in front already
	}
	return fmt.Errorf("cannot be read: %w; check the file", err)
}

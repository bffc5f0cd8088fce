package config

import (
	"io/fs"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"
)

// Parse reads a configuration; name stands for the file in messages, and relative
// file names in it start at its folder. Either there is a configuration, or there
// are problems, sorted by line. A key file is not read: Keys is then empty, and key
// ids are not checked against it.
func Parse(name string, data []byte) (*Config, []Problem) {
	d := parse(name, data)
	return d.finish()
}

// ParseNode reads a configuration that is part of another YAML file, such as a host
// of a scenario; the problems name the lines of that file.
func ParseNode(name string, node *yaml.Node) (*Config, []Problem) {
	d := parseNode(name, node)
	return d.finish()
}

// draft is a configuration that is being read.
type draft struct {
	doubled []int // sources of drop-ins that stand elsewhere too
	*decoder
	config   *Config
	warnings []Problem
	mode     fs.FileMode // permission bits of the file; 0: not known
	folder   fs.FileMode // of its folder; 0: not known
}

// parse reads a file's bytes as far as that goes without another file.
func parse(name string, data []byte) *draft {
	d := newDecoder(name)
	return decodeConfig(d, d.document(data))
}

func parseNode(name string, node *yaml.Node) *draft {
	if node != nil && node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	return decodeConfig(newDecoder(name), node)
}

// decodeConfig walks the tree; nil stands for an empty file.
func decodeConfig(d *decoder, root *yaml.Node) *draft {
	c := &Config{}
	configKeys.defaults(c)
	if root == nil || isNull(root) {
		root = &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}
	}
	if at, ok := d.enter(root, ""); ok {
		configKeys.decode(d, at, c)
	}
	c.settleClock(d)
	c.settleSmear(d)
	c.settleNTS(d)
	c.startPathsAt(filepath.Dir(d.file))
	if c.Server != nil {
		c.Server.ListenGiven = d.given("server.listen")
	}
	c.Control.SocketGiven = d.given("control.socket")
	if !d.given("keys") {
		d.keyIDs = map[uint32]string{}
	}
	return &draft{decoder: d, config: c}
}

// finish makes the checks that span several keys, and gives the result.
func (d *draft) finish() (*Config, []Problem) {
	d.check()
	sortProblems(d.problems)
	if len(d.problems) > 0 {
		return nil, d.problems
	}
	return d.config, nil
}

// settleClock fills in the defaults that depend on the clock's driver: only the
// kernel's clock has a drift and a panic gate that outlive the process by default.
func (c *Config) settleClock(d *decoder) {
	if c.Clock.Driver != ClockKernel && !d.given("clock.drift_file") {
		c.Clock.DriftFile = ""
	}
	if d.given("clock.state_dir") {
		return
	}
	switch {
	case c.Clock.DriftFile != "":
		c.Clock.StateDir = filepath.Dir(c.Clock.DriftFile)
	case c.Clock.Driver == ClockKernel:
		c.Clock.StateDir = DefaultStateDir
	}
}

// settleNTS fills in the defaults of NTS that depend on others: what is kept over
// restarts is where the clock's state is.
func (c *Config) settleNTS(d *decoder) {
	if !d.given("nts.state") {
		c.NTS.State = c.defaultNTSState()
	}
	if c.Server != nil && c.Server.NTS != nil && !d.given("server.nts.keys") {
		c.Server.NTS.Keys = ""
		if c.Clock.StateDir != "" {
			c.Server.NTS.Keys = filepath.Join(c.Clock.StateDir, "nts-keys")
		}
	}
}

func (c *Config) defaultNTSState() string {
	if c.Clock.StateDir == "" {
		return ""
	}
	return filepath.Join(c.Clock.StateDir, "nts")
}

// givenNTSState is the folder if it is another one than clock.state_dir leads to.
func (c *Config) givenNTSState() any {
	if c.NTS.State == c.defaultNTSState() {
		return nil
	}
	return c.NTS.State
}

// startPathsAt makes relative file names start at a folder.
func (c *Config) startPathsAt(folder string) {
	paths := []*string{&c.KeyFile, &c.Clock.DriftFile, &c.Clock.StateDir, &c.Clock.Leap.File, &c.Control.Socket, &c.Control.ChronySocket, &c.Statistics.Directory, &c.NTS.State}
	if c.Server != nil && c.Server.NTS != nil {
		paths = append(paths, &c.Server.NTS.Certificate, &c.Server.NTS.Key, &c.Server.NTS.Keys)
	}
	for i := range c.Sources {
		if c.Sources[i].NTS != nil {
			paths = append(paths, &c.Sources[i].NTS.CA)
		}
		if r := c.Sources[i].Refclock; r != nil && (r.Driver != RefclockPHC || strings.Contains(r.Device, "/")) { // else an interface
			paths = append(paths, &c.Sources[i].Refclock.Device)
		}
	}
	for i := range c.Include {
		paths = append(paths, &c.Include[i])
	}
	if c.ClockBound != nil {
		paths = append(paths, &c.ClockBound.Version1, &c.ClockBound.Version2)
	}
	for _, path := range paths {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(folder, *path)
		}
	}
}

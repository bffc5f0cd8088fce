package scenario

import (
	"fmt"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"timeball/internal/config"
)

// Replay is a source of a host whose exchanges are played from a record. The host's
// oscillator is that of the record; when to poll, and what comes back, is history.
type Replay struct {
	Source config.Source // its options; there is no association for it
	Record *Record
}

// replays takes the rows `replay: FILE` out of a host's configuration. In their place it
// puts a server of a name that no host has, so that their options are read as any source's;
// take finds them by it.
func (r *reader) replays(n *yaml.Node, path string) (map[string]*Record, *yaml.Node) {
	records := map[string]*Record{}
	copied := *n
	copied.Content = append([]*yaml.Node(nil), n.Content...)
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "sources" {
			continue
		}
		sources, ok := r.Follow(n.Content[i+1], path)
		if !ok || sources.Kind != yaml.SequenceNode {
			continue
		}
		rows := *sources
		rows.Content = append([]*yaml.Node(nil), sources.Content...)
		for j, row := range rows.Content {
			name := fmt.Sprintf("replay-%d.invalid", len(records)+1)
			if record, row := r.replay(row, path+".sources", name); row != nil {
				records[name], rows.Content[j] = record, row
			}
		}
		copied.Content[i+1] = &rows
	}
	return records, &copied
}

// replay reads one row; nil if it is an ordinary source.
func (r *reader) replay(n *yaml.Node, path, name string) (*Record, *yaml.Node) {
	n, ok := r.Follow(n, path)
	if !ok || n.Kind != yaml.MappingNode {
		return nil, nil
	}
	var file, from string
	var at *yaml.Node
	row := *n
	row.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		value, ok := r.Follow(n.Content[i+1], path)
		if !ok {
			continue
		}
		switch key.Value {
		case "replay":
			file, _ = r.Text(value, path+".replay", "the name of a file", "record.csv")
			at = value
			asServer, named := *key, *value
			asServer.Value, named.Value, named.Tag, named.Style = "server", name, "!!str", 0
			row.Content = append(row.Content, &asServer, &named)
		case "from":
			from, _ = r.Text(value, path+".from", "the address of a source of the record", "192.0.2.1")
		default:
			row.Content = append(row.Content, key, value)
		}
	}
	if at == nil {
		return nil, nil
	}
	record, err := ReadRecord(r.beside(file), from)
	if err != nil {
		r.Fail(at, path+".replay", "%v", err)
		return nil, &row
	}
	return record, &row
}

// beside gives a file's path where it is relative: to the scenario's directory.
func (r *reader) beside(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(filepath.Dir(r.Name()), file)
}

// take moves the sources that are replayed from a configuration to the host.
func (h *Host) take(records map[string]*Record) {
	if h.Config == nil || len(records) == 0 {
		return
	}
	var others []config.Source
	for _, source := range h.Config.Sources {
		switch record, is := records[source.Host]; {
		case !is:
			others = append(others, source)
		case record != nil: // else a problem has been reported
			h.Replays = append(h.Replays, Replay{source, record})
		}
	}
	h.Config.Sources = others
}

// checkReplays looks at what a replay needs of its host and gives the scenario its length.
func (r *reader) checkReplays(root *yaml.Node, s *Scenario) {
	longest := time.Duration(0)
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if len(h.Replays) == 0 {
			continue
		}
		clock := h.Clock
		if clock.Offset = 0; !clock.Perfect() {
			r.Fail(&yaml.Node{Line: h.Line, Column: h.Column}, "hosts."+h.Name+".clock",
				"a host that replays has the oscillator of its record; leave all but offset out")
		}
		for j := range h.Replays {
			longest = max(longest, h.Replays[j].Record.Span())
		}
	}
	if s.Duration == 0 {
		s.Duration = longest
	}
}

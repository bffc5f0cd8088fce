// Package control is how a running timeball is asked: a Unix socket that takes one line
// of JSON and gives one back, and the reports that travel over it, made of a
// model.Snapshot by pure functions. It reads, but for a few commands that change the
// running daemon, which not everybody may give (see Changes).
package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The commands.
const (
	CommandPing         = "ping"
	CommandVersion      = "version"
	CommandStatus       = "status"
	CommandSources      = "sources"
	CommandExplain      = "explain"
	CommandTracking     = "tracking"
	CommandClients      = "clients"
	CommandServerStats  = "serverstats"
	CommandAssociations = "associations"
	CommandTrace        = "trace"
	CommandHistory      = "history"
	CommandNow          = "now"
)

// MaxRequest bounds a request's line in bytes.
const MaxRequest = 64 << 10

// Request is what is asked.
type Request struct {
	Command string            `json:"command"`
	Source  string            `json:"source,omitempty"` // name, address or id, where the command is about one
	Verbose bool              `json:"verbose,omitempty"`
	Args    map[string]string `json:"args,omitempty"`
	// Asker is who asks, filled in by the server.
	Asker Asker `json:"-"`
}

// response is the line that comes back: a result or an error.
type response struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// parseRequest reads one line. Unknown fields, wrong types, and anything after the
// request are errors.
func parseRequest(line []byte) (Request, error) {
	var r Request
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return Request{}, fmt.Errorf("not a request: %s", describe(err))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Request{}, errors.New("not a request: more than one value on the line")
	}
	if r.Command == "" {
		return Request{}, errors.New("not a request: it has no \"command\"")
	}
	return r, nil
}

// describe puts a JSON error in words that do not repeat the input.
func describe(err error) string {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF):
		return "the line is empty"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the line ends too soon"
	case errors.As(err, &syntax):
		return fmt.Sprintf("no JSON at byte %d", syntax.Offset)
	}
	return err.Error()
}

// encode makes the line of an answer. A result that cannot be put as JSON is our own
// fault, and said as an error.
func encode(result any, err error) []byte {
	var r response
	if err == nil {
		r.Result, err = json.Marshal(result)
	}
	if err != nil {
		r = response{Error: err.Error()}
		if r.Error == "" {
			r.Error = "unknown error"
		}
	}
	line, err := json.Marshal(r)
	if err != nil {
		line = []byte(`{"error":"the answer cannot be put as JSON"}`)
	}
	return append(line, '\n')
}

package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"
)

// DefaultSocket is where the daemon listens unless told otherwise.
const DefaultSocket = "/run/timeball/timeball.sock"

// maxAnswer bounds what a client reads; the report of a million clients is shorter.
const maxAnswer = 256 << 20

// Call asks the daemon at path one thing. An error of the daemon's comes back as
// *RemoteError; those of the socket say what to do.
func Call(ctx context.Context, path string, r Request) (json.RawMessage, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerTimeout+writeTimeout)
		defer cancel()
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, explainDial(path, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	answer, err := exchange(conn, r)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("ask the daemon at %s: %w", path, ctx.Err())
	}
	return answer, err
}

// RemoteError is what the daemon says is wrong with a request.
type RemoteError struct{ Text string }

// Error returns the daemon's words.
func (e *RemoteError) Error() string { return e.Text }

// exchange sends the request and reads the line that comes back.
func exchange(conn net.Conn, r Request) (json.RawMessage, error) {
	line, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", plain(err))
	}
	text, err := bufio.NewReader(io.LimitReader(conn, maxAnswer)).ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("the daemon's answer is cut short after %d bytes: %w", len(text), plain(err))
	}
	var answer response
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("the daemon's answer is not understood: %s", describe(err))
	}
	if answer.Error != "" {
		return nil, &RemoteError{answer.Error}
	}
	return answer.Result, nil
}

// explainDial says what the commonest failures mean.
func explainDial(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no timeball answers at %s; is it running? (--socket says where)", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("not allowed to ask the daemon at %s; run as its user, in its group, or as root", path)
	}
	return fmt.Errorf("ask the daemon at %s: %w", path, plain(err))
}

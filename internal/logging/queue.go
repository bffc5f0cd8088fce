package logging

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	queuedLines = 1024 // wait to be written at most; more are dropped and counted
	longestLine = 8192 // bytes; the rest of a longer one is left out
	flushIn     = 500 * time.Millisecond
	writeAgain  = 20 * time.Millisecond // after a file in non-blocking mode had no room
)

// lostLines counts, over all queues of the process, the lines that were dropped.
var lostLines atomic.Uint64

// Lost is how many lines of the log were dropped because nobody read standard error, or it
// could not be written to.
func Lost() uint64 { return lostLines.Load() }

// queue is a zapcore.WriteSyncer that never waits: a goroutine of its own writes, for as long
// as the process lives.
type queue struct {
	lines   chan []byte // full: dropped and counted
	waiting atomic.Int64
	lost    atomic.Uint64 // since that was last said
	out     io.Writer
	tell    func(lost uint64) []byte
}

func newQueue(out io.Writer, tell func(lost uint64) []byte) *queue {
	q := &queue{lines: make(chan []byte, queuedLines), out: out, tell: tell}
	go q.run()
	return q
}

// Write queues a line.
func (q *queue) Write(line []byte) (int, error) {
	kept := line
	if len(line) > longestLine {
		kept = append(line[:longestLine-1:longestLine-1], '\n')
	}
	q.waiting.Add(1)
	select {
	case q.lines <- append([]byte(nil), kept...):
	default:
		q.waiting.Add(-1)
		q.drop()
	}
	return len(line), nil
}

func (q *queue) drop() {
	q.lost.Add(1)
	lostLines.Add(1)
}

// run is the goroutine that writes.
func (q *queue) run() {
	for line := range q.lines {
		if !q.write(line) {
			q.drop()
		} else if lost := q.lost.Swap(0); lost > 0 && !q.write(q.tell(lost)) {
			q.lost.Add(lost)
		}
		q.waiting.Add(-1)
	}
}

// write writes a line whole, however long that takes; false: it cannot be written.
func (q *queue) write(line []byte) bool {
	for {
		n, err := q.out.Write(line)
		if err == nil {
			return true
		}
		if !errors.Is(err, syscall.EAGAIN) || errors.Is(err, os.ErrClosed) {
			return false
		}
		line = line[n:]
		time.Sleep(writeAgain)
	}
}

// Sync waits until what is queued has been written, but not for long.
func (q *queue) Sync() error {
	for end := time.Now().Add(flushIn); q.waiting.Load() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	return nil
}

// Package logging makes the log of the daemon: what one message may fill of it is limited,
// and writing it holds up nobody. Lines go through a bounded queue to standard error; where
// nobody reads that they are dropped and counted.
package logging

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"

	"timeball/internal/config"
)

// New makes the logger that a configuration asks for, which writes to standard error, and
// its level, which a reload may change. Sync waits a moment for what is queued to be written.
func New(cfg config.Log) (*zap.Logger, *zap.AtomicLevel, error) {
	return newLogger(cfg, os.Stderr, toJournal(os.Getenv("JOURNAL_STREAM"), os.Stderr))
}

func newLogger(cfg config.Log, out *os.File, journal bool) (*zap.Logger, *zap.AtomicLevel, error) {
	at, err := zapcore.ParseLevel(string(cfg.Level))
	if err != nil {
		return nil, nil, fmt.Errorf("log level: %w", err)
	}
	level := zap.NewAtomicLevelAt(at)
	encoder := newEncoder(cfg.Format, journal)
	queue := newQueue(out, func(lost uint64) []byte {
		entry := zapcore.Entry{Level: zapcore.WarnLevel, Time: zapcore.DefaultClock.Now(), Message: "log lines lost, since standard error was not read"}
		line, err := encoder.EncodeEntry(entry, []zapcore.Field{zap.Uint64("count", lost)})
		if err != nil {
			return nil
		}
		return line.Bytes()
	})
	log := zap.New(limitLog(zapcore.NewCore(encoder, queue, level)), zap.ErrorOutput(queue))
	return log, &level, nil
}

// newEncoder makes lines of a format. The journal gets each line's priority in front, as
// sd-daemon(3) has it, and no time, since it has its own.
func newEncoder(format config.LogFormat, journal bool) zapcore.Encoder {
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.ISO8601TimeEncoder
	c.EncodeDuration = zapcore.StringDurationEncoder
	c.TimeKey = "time"
	if journal {
		c.TimeKey = zapcore.OmitKey
	}
	encoder := zapcore.NewJSONEncoder(c)
	if format == config.FormatConsole {
		c.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(c)
	}
	if journal {
		return prioritized{encoder}
	}
	return encoder
}

// toJournal reports whether a file is the stream to the journal that the environment names
// by device and inode (systemd.exec(5)).
func toJournal(stream string, file *os.File) bool {
	info, err := file.Stat()
	if err != nil || stream == "" {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// prioritized puts the priority of a line in front of it, "<4>" for a warning.
type prioritized struct{ zapcore.Encoder }

var buffers = buffer.NewPool()

// priorities are those of syslog(3).
var priorities = map[zapcore.Level]string{
	zapcore.DebugLevel: "<7>", zapcore.InfoLevel: "<6>", zapcore.WarnLevel: "<4>", zapcore.ErrorLevel: "<3>",
	zapcore.DPanicLevel: "<2>", zapcore.PanicLevel: "<2>", zapcore.FatalLevel: "<2>",
}

// Clone implements zapcore.Encoder.
func (e prioritized) Clone() zapcore.Encoder { return prioritized{e.Encoder.Clone()} }

// EncodeEntry implements zapcore.Encoder.
func (e prioritized) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	defer line.Free()
	out := buffers.Get()
	for part := range strings.Lines(line.String()) {
		out.AppendString(priorities[entry.Level])
		out.AppendString(part)
	}
	return out, nil
}

// Command soak runs the lab of `make run` for long, with fast polls and a flood of
// mutated packets at every host, and fails if goroutines or memory grow, if the log
// does, or if a host loses the time. Run it from the module's root:
//
//	go run ./test/soak --duration 1h
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"timeball/internal/config"
	"timeball/internal/lab"
	"timeball/internal/scenario"
)

// settings are the flags.
type settings struct {
	scenario string
	duration time.Duration
	warm     time.Duration // left out of the comparison
	every    time.Duration // between measurements
	rate     int           // mutated packets a second, over all hosts
	seeds    int
}

func main() {
	var s settings
	flag.StringVar(&s.scenario, "scenario", "configs/quickstart.yaml", "lab to run")
	flag.DurationVar(&s.duration, "duration", time.Hour, "how long")
	flag.DurationVar(&s.warm, "warm", time.Minute, "how long until memory and goroutines must stay as they are")
	flag.DurationVar(&s.every, "every", 5*time.Second, "time between measurements")
	flag.IntVar(&s.rate, "rate", 1500, "mutated packets a second")
	flag.IntVar(&s.seeds, "seeds", 3, "streams of mutated packets")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := soak(ctx, &s); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// counter counts what is written to it.
type counter struct{ octets atomic.Int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.octets.Add(int64(len(b)))
	return len(b), nil
}

func (c *counter) Sync() error { return nil }

// soak runs everything and judges it.
func soak(ctx context.Context, s *settings) error {
	scenario, err := scenario.Load(s.scenario)
	if err != nil {
		return err
	}
	hurry(scenario)
	written := new(counter)
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), written, zap.InfoLevel))
	l, err := lab.Open(scenario, lab.Options{Log: log, Version: "soak"})
	if err != nil {
		return err
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(ctx, s.duration)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	flood := newFlood(l.Addresses(), s.rate, s.seeds)
	go flood.run(ctx)

	record := watch(ctx, s, written, flood)
	state := l.State()
	cancel()
	if err := <-ended; err != nil {
		return err
	}
	fmt.Println(record.summary(flood))
	name, worst := state.Worst()
	fmt.Printf("hosts not synchronized: %v; largest true error %.1f us (%s)\n", state.Unsynchronized(), worst*1e6, name)
	return record.judge(&state)
}

// hurry makes all polls as quick as they may be.
func hurry(s *scenario.Scenario) {
	for i := range s.Hosts {
		for j := range s.Hosts[i].Config.Sources {
			source := &s.Hosts[i].Config.Sources[j]
			source.MinPoll, source.MaxPoll = config.MinPoll, config.MinPoll+2
		}
	}
}

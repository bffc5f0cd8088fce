package daemon

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/model"
	"timeball/internal/statistics"
)

// statisticsQueue is how many records wait for the disk; more are dropped and counted:
// the clock does not wait for a disk.
const statisticsQueue = 1024

// flushEvery is how long a record may wait in memory.
const flushEvery = 2 * time.Second

// statisticsFiles writes the files of statistics, on a goroutine of its own.
type statisticsFiles struct {
	writer  *statistics.Writer
	records chan statisticsRecord // full: dropped and counted
	dropped atomic.Uint64
	log     *zap.Logger
}

// statisticsRecord is a sample with its source, or a snapshot.
type statisticsRecord struct {
	sample   model.Sample
	source   model.SourceReport // without its filter
	snapshot *model.Snapshot    // nil: a sample
}

// openStatistics makes the writer that a configuration wants; nil: none.
func openStatistics(d *Daemon, cfg *config.Config) (*statisticsFiles, error) {
	s := cfg.Statistics
	if s.Directory == "" {
		return nil, nil
	}
	wants := func(kind config.StatisticsKind) bool { return slices.Contains(s.Kinds, kind) }
	writer, err := statistics.New(statistics.Config{
		Directory: s.Directory, Keep: s.Keep, NTPD: s.Format == config.StatisticsNTPD,
		Measurements: wants(config.StatisticsMeasurements), Tracking: wants(config.StatisticsTracking), Selection: wants(config.StatisticsSelection),
	})
	if err != nil {
		return nil, err
	}
	return &statisticsFiles{writer: writer, records: make(chan statisticsRecord, statisticsQueue), log: d.log}, nil
}

// sample leaves a sample to be written; it does not wait.
func (f *statisticsFiles) sample(s *model.Sample, snapshot *model.Snapshot) {
	if f == nil {
		return
	}
	record := statisticsRecord{sample: *s}
	for i := range snapshot.Sources {
		if r := &snapshot.Sources[i]; r.Source == s.Source {
			record.source = *r
			record.source.Filter, record.source.Checks = nil, nil
		}
	}
	f.leave(record)
}

// publish leaves a snapshot to be written.
func (f *statisticsFiles) publish(s *model.Snapshot) {
	if f != nil {
		f.leave(statisticsRecord{snapshot: s})
	}
}

func (f *statisticsFiles) leave(r statisticsRecord) {
	if !offer(f.records, r) {
		f.dropped.Add(1)
	}
}

// start begins the goroutine, which ends with the group.
func (f *statisticsFiles) start(g *group) {
	if f != nil {
		g.Go("statistics", f.run)
	}
}

func (f *statisticsFiles) run(ctx context.Context) error {
	defer f.writer.Close()
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	lost, problem := uint64(0), ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-f.records:
			f.write(&r)
		case <-ticker.C:
			now := f.writer.Flush()
			if now != "" && now != problem {
				f.log.Warn("statistics are not written", zap.String("reason", now))
			}
			problem = now
			if dropped := f.dropped.Load(); dropped != lost {
				f.log.Warn("statistics lost: the disk is too slow", zap.Uint64("records", dropped-lost))
				lost = dropped
			}
		}
	}
}

func (f *statisticsFiles) write(r *statisticsRecord) {
	if r.snapshot != nil {
		f.writer.Snapshot(r.snapshot)
		return
	}
	f.writer.Measurement(&r.sample, &r.source, "0.0.0.0")
}

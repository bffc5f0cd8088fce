package engine

import (
	"net/netip"

	"timeball/internal/config"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/system"

	"timeball/internal/association"
)

// Probe is the association of a single question: a client without a daemon.
type Probe struct {
	Name    string
	Remote  netip.AddrPort
	Local   netip.Addr // invalid: the route's
	Version uint8      // 1 to 4; 0: 4
	Key     *mac.Key   // nil: none
	// Keys are what a key exchange has brought (NTS); nil: it asks without.
	Keys *association.Keys
}

// Association is the probe's, polling once a second.
func (p *Probe) Association() association.Config {
	return association.Config{
		ID: 1, Name: p.Name, Kind: association.KindClient, Remote: p.Remote, Local: p.Local,
		Version: p.Version, Key: p.Key, Unsynchronized: true,
		NTS: p.Keys != nil, Keys: p.Keys,
	}
}

// ProbeSystem is the system process that selects among the answers of probes: as the
// configuration says, but it corrects no clock and so has no panic gate.
func ProbeSystem(cfg *config.Config, precision ntptime.Log2) system.Config {
	return system.Config{
		MinSources: cfg.Selection.MinSources, MaxDistance: cfg.Selection.MaxDistance, Required: required(cfg), Precision: precision,
		PanicGateOpen: true,
	}
}

// ProbeSources are the associations that a daemon of this configuration would begin with,
// and the rows of the lines that would have none. An error says which key cannot be made.
func ProbeSources(cfg *config.Config, host *Host, lookup func(name string) ([]netip.Addr, error)) (list []*Association, idle []model.SourceReport, err error) {
	keys, err := Keys(cfg)
	if err != nil {
		return nil, nil, err
	}
	const now = ntptime.Raw(1)
	var out Changes
	set := NewAssociations(Setup{Config: cfg, Keys: keys}, host, UsualTiming, func(model.SourceID) *model.SourceStatus { return nil })
	set.Start(now, &out)
	for len(out.Resolve) > 0 {
		name := out.Resolve[0]
		out.Resolve = out.Resolve[1:]
		if addrs, err := lookup(name); err != nil {
			set.NotResolved(name, err.Error(), 0, now, &out)
		} else {
			set.Resolved(name, addrs, now, &out)
		}
	}
	return set.sorted(), set.Idle(now).Rows, nil
}

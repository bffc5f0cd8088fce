package daemon

import (
	"errors"
	"slices"
	"strings"

	"timeball/internal/config"
	"timeball/internal/control"
	"timeball/internal/engine"
)

// planReload reads the configuration again and says what taking it over would do. It
// changes nothing. An error says why it would be refused; sockets are tried only when
// the plan is carried out.
func (d *Daemon) planReload(old *config.Config) (*config.Config, config.Plan, *control.ReloadPlan, error) {
	if d.opts.Path == "" {
		return nil, config.Plan{}, nil, errors.New("this daemon was started without a configuration file")
	}
	next, warnings, err := config.Load(d.opts.Path)
	if err != nil {
		return nil, config.Plan{}, nil, err
	}
	plan := config.Diff(old, next)
	report := &control.ReloadPlan{
		File: d.opts.Path, Same: plan.Empty(), Sources: sourceChanges(&plan, old, next),
		Sections: []string{}, Restart: []control.NeedsRestart{}, Warnings: []string{},
	}
	late := d.late(&plan, old)
	for _, section := range plan.Changed {
		if !slices.Contains(late, section) {
			report.Sections = append(report.Sections, section)
		}
	}
	// What runs of these sections is what was read at the start, whatever files came since.
	waiting := config.Diff(d.begun, next).Restart
	for _, section := range slices.Concat(waiting, late) {
		report.Restart = append(report.Restart, control.NeedsRestart{Section: section, Why: config.RestartReason(section)})
	}
	for _, warning := range warnings {
		report.Warnings = append(report.Warnings, warning.String())
	}
	return next, plan, report, nil
}

// sourceChanges says what becomes of each source: those of the new configuration in its
// order, and then those that end.
func sourceChanges(plan *config.Plan, old, next *config.Config) []control.SourceChange {
	changed := engine.ChangedKeys(old, next)
	list := make([]control.SourceChange, 0, len(next.Sources)+len(plan.Stop))
	ends := slices.Clone(plan.Stop)
	for j := range next.Sources {
		s := &next.Sources[j]
		c := control.SourceChange{Source: s.Name(), Action: control.ActionKeep, Why: "unchanged: filter and poll stay"}
		switch {
		case slices.Contains(plan.Start, j):
			c.Action, c.Why = control.ActionStart, "new in the configuration"
			same := func(i int) bool { return old.Sources[i].Kind == s.Kind && old.Sources[i].Name() == s.Name() }
			if at := slices.IndexFunc(ends, same); at >= 0 {
				keys := config.ChangedKeys(&old.Sources[ends[at]], s)
				c.Action, c.Why = control.ActionRestart, "changed: "+strings.Join(keys, ", ")
				ends = slices.Delete(ends, at, at+1)
			}
		case s.Key != 0 && changed[s.Key]:
			c.Action, c.Why = control.ActionRestart, "its key has changed"
		}
		list = append(list, c)
	}
	for _, i := range ends {
		list = append(list, control.SourceChange{Source: old.Sources[i].Name(), Action: control.ActionStop, Why: "no longer in the configuration"})
	}
	return list
}

package system

// bias is how far a source's offset stands from the others', because its path
// is asymmetric.
type bias struct {
	applied float64 // s, taken off its windows
	runaway bool
}

func (s *System) updateBias(*source) {}

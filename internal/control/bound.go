package control

import (
	"encoding/json"
	"math"
	"time"

	"timeball/internal/model"
)

// Bound is an error bound in seconds; +Inf, and null in JSON, where none is known.
type Bound float64

// BoundOf returns a snapshot's bound, grown by so much since.
func BoundOf(s *model.Snapshot, grown time.Duration) Bound {
	if s.ErrorBound >= model.UnknownBound {
		return Bound(math.Inf(1))
	}
	return Bound((s.ErrorBound + grown).Seconds())
}

// Known reports whether there is a bound.
func (b Bound) Known() bool { return !math.IsInf(float64(b), 0) && !math.IsNaN(float64(b)) }

// MarshalJSON implements json.Marshaler.
func (b Bound) MarshalJSON() ([]byte, error) {
	if !b.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(b))
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *Bound) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*b = Bound(math.Inf(1))
		return nil
	}
	return json.Unmarshal(text, (*float64)(b))
}

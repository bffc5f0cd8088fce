package model_test

import (
	"fmt"
	"testing"

	"timeball/internal/model"
)

// Every value has a word of its own: metrics and reports are told apart by it.
func TestEveryValueHasItsOwnWord(t *testing.T) {
	for _, test := range []struct {
		name  string
		count int
		word  func(int) fmt.Stringer
	}{
		{"states", model.States, func(i int) fmt.Stringer { return model.State(i) }},
		{"reject reasons", model.RejectReasons, func(i int) fmt.Stringer { return model.RejectReason(i) }},
		{"kiss codes", model.KissCodes, func(i int) fmt.Stringer { return model.KissCode(i) }},
		{"discipline states", model.DisciplineStates, func(i int) fmt.Stringer { return model.DisciplineState(i) }},
		{"events", model.EventKinds, func(i int) fmt.Stringer { return model.EventKind(i) }},
	} {
		seen := map[string]int{}
		for i := range test.count {
			word := test.word(i).String()
			if before, ok := seen[word]; ok || word == "" {
				t.Errorf("%s: %d is %q, as %d is; want a word of its own", test.name, i, word, before)
			}
			seen[word] = i
		}
	}
}

func TestStatesAreNamedAsTheReportsPromise(t *testing.T) {
	promised := []string{"selected", "combined", "survivor", "outlier", "falseticker", "distant",
		"unsynchronized", "unreachable", "excluded", "waiting"}
	if got, want := model.States, len(promised); got != want {
		t.Errorf("got %d states, want %d", got, want)
	}
	for _, word := range promised {
		found := false
		for s := range model.States {
			found = found || model.State(s).String() == word
		}
		if !found {
			t.Errorf("no state is called %q", word)
		}
	}
}

package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"timeball/internal/config"
)

// span is a flag's value: a duration of zero or more, written as in the configuration.
type span time.Duration

// Set implements pflag.Value.
func (s *span) Set(text string) error {
	value, err := config.ParseDuration(text)
	if err != nil {
		return err
	}
	if value < 0 {
		return fmt.Errorf("is below zero; write 0s or more")
	}
	*s = span(value)
	return nil
}

// String implements pflag.Value.
func (s *span) String() string { return config.FormatDuration(time.Duration(*s)) }

// Type implements pflag.Value.
func (s *span) Type() string { return "duration" }

// addSpan adds a flag for a duration of zero or more.
func addSpan(cmd *cobra.Command, target *time.Duration, name, short string, byDefault time.Duration, help string) {
	*target = byDefault
	cmd.Flags().VarP((*span)(target), name, short, help)
}

// inRange checks a number of a flag.
func inRange(flag string, value, least, most int) error {
	if value < least || value > most {
		return usageError{fmt.Errorf("--%s %d: want %d to %d", flag, value, least, most)}
	}
	return nil
}

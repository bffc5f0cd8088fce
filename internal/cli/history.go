package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"timeball/internal/control"
	"timeball/internal/history"
)

func newHistory() *cobra.Command {
	var socket, span, svg string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "history",
		Short: "The last hour, day or week: offset, bound, frequency, sources, load",
		Long: "The last hour, day or week, from the daemon's memory: a row for each twelfth of it, the\n" +
			"worst value of each. With --svg the same pictures as on the status page.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(history.Names(), span) {
				return usageError{fmt.Errorf("--span %q is not known; use %s", span, strings.Join(history.Names(), ", "))}
			}
			raw, err := control.Call(cmd.Context(), socket, control.Request{Command: control.CommandHistory, Args: map[string]string{"span": span}})
			if err != nil {
				return err
			}
			var view history.View
			if err := json.Unmarshal(raw, &view); err != nil {
				return fmt.Errorf("the daemon's answer is not understood: %w; are daemon and command of one version?", err)
			}
			if svg != "" {
				return writeFile(svg, func(w io.Writer) error {
					_, err := w.Write(view.Picture(fmt.Sprintf("The last %s until %s", view.Span, civil(view.End))))
					return err
				})
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), view)
			}
			return printHistory(cmd.OutOrStdout(), &view)
		},
	}
	addSocketFlag(cmd, &socket)
	cmd.Flags().StringVar(&span, "span", "hour", "hour, day or week")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&svg, "svg", "", "draw it to `FILE`")
	return cmd
}

// historyRows is in how many parts a span is printed.
const historyRows = 12

func printHistory(w io.Writer, v *history.View) error {
	if len(v.Points) == 0 {
		_, err := fmt.Fprintln(w, "nothing is remembered yet; the first point comes within 10 s")
		return err
	}
	fmt.Fprintf(w, "The last %s, each row the worst of its time (UTC).\n%s\n", v.Span, offsetLegend)
	var t table
	t.row("FROM", "SYNC", "OFFSET", "BOUND", "FREQUENCY", "JITTER", "REQUESTS", "ANSWERED")
	whole := map[string]float64{"hour": 3600, "day": 86400, "week": 7 * 86400}[v.Span]
	for part := historyRows; part > 0; part-- {
		from, to := whole*float64(part)/historyRows, whole*float64(part-1)/historyRows
		if row := historyRow(v, from, to); row != nil {
			t.row(row...)
		}
	}
	return t.print(w)
}

// historyRow sums up the points between two ages; nil if there are none.
func historyRow(v *history.View, from, to float64) []string {
	var worst history.Point
	bound, count, synced := 0.0, 0, 0
	for i := range v.Points {
		p := &v.Points[i]
		if p.Age > from || p.Age <= to && to > 0 {
			continue
		}
		count++
		if p.Synchronized {
			synced++
		}
		if math.Abs(p.Offset) >= math.Abs(worst.Offset) {
			worst.Offset = p.Offset
		}
		if p.ErrorBound == nil {
			bound = math.Inf(1)
		} else {
			bound = max(bound, *p.ErrorBound)
		}
		worst.Frequency, worst.Jitter = p.Frequency, max(worst.Jitter, p.Jitter)
		worst.Requests, worst.Answered = worst.Requests+p.Requests, worst.Answered+p.Answered
	}
	if count == 0 {
		return nil
	}
	begin := time.Unix(0, int64((v.End-from)*1e9)).UTC().Format("Jan 02 15:04")
	return []string{begin, fmt.Sprintf("%.0f %%", 100*float64(synced)/float64(count)), formatOffset(worst.Offset), "± " + formatBound(control.Bound(bound)),
		fmt.Sprintf("%+.3f ppm", worst.Frequency*1e6), formatTime(worst.Jitter), fmt.Sprint(worst.Requests), fmt.Sprint(worst.Answered)}
}

package metrics

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"timeball/internal/bound"
	"timeball/internal/history"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// page is the status page: one document that loads nothing and runs nothing.
type page struct{ source Source }

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// view is what the page shows; all is text.
type view struct {
	Version, Uptime string
	Class           string // good, warn or bad
	Host, Headline  string
	Alerts          []string
	Facts           []fact
	Sources         []row
	Server          []fact
	Span            string
	Spans           []string
	Charts          []chart
	Style           template.CSS
}

// chart is a picture that we have drawn ourselves, names in it escaped.
type chart struct {
	Title string
	SVG   template.HTML
}

type fact struct{ Name, Value string }

type row struct {
	Class, Name, Address, State, Reason       string
	Stratum, Poll, Reach, Age, Offset, Jitter string
	Delay                                     string
	NTS                                       string // "": without
}

// ServeHTTP implements http.Handler.
func (p page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var text bytes.Buffer
	if err := pageTemplate.Execute(&text, p.view(r.URL.Query().Get("span"))); err != nil {
		http.Error(w, "the status page cannot be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.Write(text.Bytes()) // an error here is the client's: it is gone
}

func (p page) view(span string) view {
	process := p.source.Process()
	v := view{Version: process.Version, Uptime: uptimeText(process.Uptime), Host: process.Host, Class: "warn", Headline: "starting"}
	s := p.source.Snapshot()
	if s == nil {
		return v
	}
	now := p.source.Now()
	v.Class, v.Headline = headline(s)
	server := p.source.Server()
	v.Alerts = alerts(&process, s, server)
	v.Facts = facts(s, now)
	v.Server = served(server)
	v.remember(p.source, span)
	for i := range s.Sources {
		v.Sources = append(v.Sources, rowOf(&s.Sources[i], now))
	}
	return v
}

// remember adds what is remembered of a span.
func (v *view) remember(source Source, span string) {
	past, ok := source.History(span)
	if !ok {
		return
	}
	v.Span, v.Spans, v.Style = past.Span, history.Names(), template.CSS(history.Style)
	for _, c := range past.Charts() {
		v.Charts = append(v.Charts, chart{c.Title, template.HTML(c.SVG)})
	}
}

// alerts are what an operator has to know before all else.
func alerts(process *Process, s *model.Snapshot, server *Server) (list []string) {
	if process.Machine != nil && s.LastUpdate != (ntptime.Instant{}) {
		list = append(list, "the machine's clock is only observed, not set: its offset is "+offset(*process.Machine+s.Offset)+"; what follows is of the time worked out and served")
	}
	if process.ReloadFailed {
		list = append(list, "the last reload was refused, the configuration before is in force: "+process.ReloadError)
	}
	if server != nil {
		for i, address := range server.NotListening {
			text := "nothing is served at " + address
			if i < len(server.NotListeningWhy) {
				text += ": " + server.NotListeningWhy[i]
			}
			list = append(list, text)
		}
	}
	return list
}

// served are the server's counters, over all addresses.
func served(server *Server) []fact {
	if server == nil {
		return nil
	}
	var sum responder.Counters
	var errors, dropped uint64
	var addresses []string
	for i := range server.Listeners {
		l := &server.Listeners[i]
		addCounters(&sum, &l.Counters)
		errors, dropped = errors+l.SendErrors, dropped+l.Overflow+l.Stale
		if !slices.Contains(server.NotListening, l.Address) {
			addresses = append(addresses, l.Address)
		}
	}
	count := func(n uint64) string { return fmt.Sprint(n) }
	list := []fact{
		{"Served at", strings.Join(addresses, ", ")},
		{"Requests received", count(sum.Received())},
		{"Answered with the time", count(sum.Sum(responder.Answered) + sum.Sum(responder.Interleaved))},
		{"Refused", count(sum.Sum(responder.Denied) + sum.Sum(responder.Refused))},
		{"Over the rate limit", count(sum.Sum(responder.Limited) + sum.Sum(responder.RateKoD))},
		{"Dropped unread", count(dropped)},
		{"Replies not sent", count(errors)},
		{"Clients within the hour", fmt.Sprint(server.Clients.Clients)},
	}
	if server.Broadcast > 0 {
		list = append(list, fact{"Broadcasts sent", count(server.Broadcast)})
	}
	return list
}

// headline says in words how things stand.
func headline(s *model.Snapshot) (class, words string) {
	peer := peerName(s)
	switch {
	case s.State == model.DisciplinePanic:
		return "bad", fmt.Sprintf("not corrected: the clock is %s off, beyond the panic limit; if the sources are right, timeball accept-correction lets it through", offset(s.PanicOffset))
	case !s.Synchronized:
		return "bad", "not synchronized"
	case s.State == model.DisciplineHoldover:
		return "warn", "holdover: no usable source, on the last known frequency"
	case s.State == model.DisciplineLocal:
		return "warn", fmt.Sprintf("the local clock is the reference, at stratum %d", s.Stratum)
	case peer == "":
		return "good", fmt.Sprintf("synchronized, stratum %d", s.Stratum)
	}
	return "good", fmt.Sprintf("synchronized to %s, stratum %d", peer, s.Stratum)
}

func facts(s *model.Snapshot, now ntptime.Instant) []fact {
	list := []fact{{"Time (UTC)", now.Wall.Time().Format("2006-01-02 15:04:05")}}
	if s.LastUpdate != (ntptime.Instant{}) || s.Synchronized {
		list = append(list, measured(s, bound.Growth(s, now))...)
	}
	list = append(list,
		fact{"Last update", ago(s.LastUpdate, now)},
		fact{"Steps", fmt.Sprintf("%d, %s in all", s.Steps, span(s.StepsTotal))},
		fact{"Leap", s.Leap.String()})
	if s.LeapPending != 0 {
		list = append(list, fact{"Leap second at", s.LeapPending.Time().Format(time.RFC3339)})
	}
	return list
}

// measured is what is known once the clock has been updated.
func measured(s *model.Snapshot, grown time.Duration) []fact {
	bound := "unknown"
	if s.ErrorBound < model.UnknownBound {
		bound = span(s.ErrorBound + grown)
	}
	return []fact{
		{"Offset", offset(s.Offset) + " ± " + bound},
		{"Estimated error", span(s.EstimatedError)},
		{"Frequency", fmt.Sprintf("%+.3f ± %.3f ppm", s.Frequency.PPM(), s.FrequencyError.PPM())},
		{"Jitter", span(s.Jitter)},
		{"Root delay", span(s.RootDelay)},
		{"Root dispersion", span(s.RootDispersion + grown)},
		{"Root distance", span(s.RootDelay/2 + s.RootDispersion + grown)},
		{"Reference id", reference(s)},
	}
}

// stateClasses colours the states; those not named are neutral.
var stateClasses = [model.States]string{
	model.StateSelected: "good", model.StateCombined: "good", model.StateSurvivor: "good",
	model.StateFalseticker: "bad", model.StateUnreachable: "bad", model.StateUnsynchronized: "bad",
	model.StateDistant: "warn", model.StateOutlier: "warn",
}

func rowOf(r *model.SourceReport, now ntptime.Instant) row {
	out := row{
		Class: stateClasses[r.State], Name: r.Name, State: r.State.String(), Reason: r.Reason,
		Stratum: fmt.Sprint(r.Server.Stratum), Poll: span(r.Interval), Reach: fmt.Sprintf("%03o", r.Reach),
		Age: ago(r.LastSample, now),
	}
	if r.Server.Stratum >= wire.MaxStratum {
		out.Stratum = "–"
	}
	if host := r.Address.Addr(); host.IsValid() && host.String() != r.Name && r.Address.String() != r.Name {
		out.Address = r.Address.String()
	}
	if r.NTS {
		out.NTS = fmt.Sprintf("NTS, %d cookies", r.Security.Cookies)
	}
	if r.LastSample != (ntptime.Instant{}) {
		out.Offset, out.Delay, out.Jitter = offset(r.Offset)+" ± "+span(r.Error), span(r.Delay), span(r.Jitter)
	}
	return out
}

// uptimeText is how long the process runs.
func uptimeText(d time.Duration) string { return d.Round(time.Second).String() }

// offset prints a signed time in a fitting unit.
func offset(d time.Duration) string {
	if d < 0 {
		return "−" + span(-d)
	}
	return "+" + span(d)
}

// span prints a time in a fitting unit, with three to four digits.
func span(d time.Duration) string {
	seconds := math.Abs(d.Seconds())
	switch {
	case seconds < 1e-6:
		return fmt.Sprintf("%.0f ns", seconds*1e9)
	case seconds < 1e-3:
		return fmt.Sprintf("%.2f µs", seconds*1e6)
	case seconds < 1:
		return fmt.Sprintf("%.3f ms", seconds*1e3)
	case seconds < 100:
		return fmt.Sprintf("%.4g s", seconds)
	}
	return d.Abs().Round(time.Second).String()
}

func ago(at, now ntptime.Instant) string {
	if at == (ntptime.Instant{}) {
		return "never"
	}
	return max(0, now.Raw.Sub(at.Raw)).Round(time.Second).String() + " ago"
}

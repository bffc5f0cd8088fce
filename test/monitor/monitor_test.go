// Package monitor has the tools that watch timeball read what it ships for them.
package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

func TestMain(m *testing.M) { peers.Main(m) }

const configs = "../../configs"

// promtool takes the alerts, and each fires when it should.
func TestPromtoolTakesTheRules(t *testing.T) {
	tool := peers.Unpack(t, "prometheus", "usr/bin/promtool")
	for _, args := range [][]string{{"check", "rules", "rules.yaml"}, {"test", "rules", "rules_test.yaml"}} {
		cmd := exec.CommandContext(t.Context(), tool.Path, args...)
		cmd.Dir = filepath.Join(configs, "prometheus")
		cmd.Env = append(os.Environ(), tool.Env()...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// Every alert has a test, and every metric that an alert or a panel names is one that
// there is.
func TestAlertsAreTestedAndNameMetricsThatThereAre(t *testing.T) {
	rules, tests := read(t, "prometheus/rules.yaml"), read(t, "prometheus/rules_test.yaml")
	alerts := regexp.MustCompile(`(?m)alert: (\w+)`).FindAllStringSubmatch(rules, -1)
	if len(alerts) < 15 {
		t.Errorf("got %d alerts, want 15 or more", len(alerts))
	}
	for _, alert := range alerts {
		if !strings.Contains(tests, "alertname: "+alert[1]+"\n") {
			t.Errorf("%s has no test", alert[1])
		}
	}
	reference, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"prometheus/rules.yaml", "grafana/timeball.json"} {
		for _, name := range regexp.MustCompile(`\bntp_[a-z_]+[a-z]\b`).FindAllString(read(t, file), -1) {
			if !strings.Contains(string(reference), "| `"+name+"` |") {
				t.Errorf("%s names %s, which is no metric", file, name)
			}
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(configs, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// dashboard is what is looked at of a dashboard's file.
type dashboard struct {
	Panels []struct {
		Title   string
		Targets []struct{ Expr string }
	}
	Annotations struct{ List []struct{ Expr string } }
}

// sometimes are the panels that show nothing while all is well.
var sometimes = map[string]bool{"Answers refused": true}

// A real Prometheus takes every query of the dashboard, and finds something in a real
// scrape for each.
func TestEveryQueryOfTheDashboardFindsSomething(t *testing.T) {
	var board dashboard
	if err := json.Unmarshal([]byte(read(t, "grafana/timeball.json")), &board); err != nil {
		t.Fatal(err)
	}
	prometheus := peers.Unpack(t, "prometheus", "usr/bin/prometheus")
	host := peers.Here(t)
	metrics, web, ntp := free(t, "tcp"), free(t, "tcp"), free(t, "udp")
	peers.Timeball(t, host, fmt.Sprintf("clock: {driver: virtual}\nlocal: {stratum: 1}\nserver: {listen: [\"%s\"], workers: 1, rate_limit: {}}\n"+
		"sources: [{server: \"%s\", min_poll: -3, max_poll: -3}]\nmetrics: {listen: \"%s\"}\n", ntp, free(t, "udp"), metrics))
	host.Write("prometheus.yml", fmt.Sprintf("global: {scrape_interval: 1s}\nscrape_configs:\n  - {job_name: timeball, static_configs: [{targets: [\"%s\"]}]}\n", metrics))
	host.Start("prometheus", prometheus.Env(), prometheus.Path, "--config.file", filepath.Join(host.Dir, "prometheus.yml"),
		"--storage.tsdb.path", filepath.Join(host.Dir, "tsdb"), "--web.listen-address", web)
	tried := 0
	ask := func(title, expr string) {
		tried++
		expr = strings.NewReplacer("$instance", ".*", "$__rate_interval", "10s").Replace(expr)
		peers.Eventually(t, 2*time.Minute, title, func() error {
			if conn, err := net.Dial("udp", ntp); err == nil { // somebody asks
				request := make([]byte, 48)
				request[0] = 0x23
				_, _ = conn.Write(request)
				conn.Close()
			}
			found, err := query(t.Context(), web, expr)
			if err == nil && found == 0 && !sometimes[title] {
				err = fmt.Errorf("nothing found by %s", expr)
			}
			return err
		})
	}
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			ask(panel.Title, target.Expr)
		}
	}
	for _, annotation := range board.Annotations.List {
		sometimes["annotation"] = true
		ask("annotation", annotation.Expr)
	}
	if tried < 20 {
		t.Errorf("got %d queries, want 20 or more", tried)
	}
}

// query asks Prometheus and counts what it finds.
func query(ctx context.Context, at, expr string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, "GET", "http://"+at+"/api/v1/query?query="+url.QueryEscape(expr), nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Status string
		Error  string
		Data   struct{ Result []any }
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, fmt.Errorf("%s: %w", text, err)
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("%s: %s", expr, answer.Error)
	}
	return len(answer.Data.Result), nil
}

// free is an address that is free.
func free(t *testing.T, network string) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", peers.FreePort(t, network))
}

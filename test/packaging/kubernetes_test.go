package packaging

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"timeball/internal/config"
)

// The configurations that go into containers are good, and the DaemonSet says what its
// document says.
func TestContainersHaveGoodConfigurations(t *testing.T) {
	text, err := os.ReadFile("../../packaging/container.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, problems := config.Parse("container.yaml", text); len(problems) > 0 {
		t.Errorf("container.yaml: %v", problems)
	}
	manifest, err := os.ReadFile("../../packaging/kubernetes/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]map[string]any{}
	for decoder := yaml.NewDecoder(bytes.NewReader(manifest)); ; {
		var object map[string]any
		if err := decoder.Decode(&object); err != nil {
			break
		}
		kinds[object["kind"].(string)] = object
	}
	data, _ := kinds["ConfigMap"]["data"].(map[string]any)
	inner, _ := data["timeball.yaml"].(string)
	if _, problems := config.Parse("timeball.yaml", []byte(inner)); inner == "" || len(problems) > 0 {
		t.Errorf("the ConfigMap's configuration: %q, %v", inner, problems)
	}
	if kinds["DaemonSet"] == nil {
		t.Fatal("there is no DaemonSet")
	}
	for _, want := range []string{"add: [SYS_TIME]", "drop: [ALL]", "readOnlyRootFilesystem: true", "path: /ready", "path: /healthz"} {
		if !strings.Contains(string(manifest), want) {
			t.Errorf("the DaemonSet does not say %q", want)
		}
	}
}

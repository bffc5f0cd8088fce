package packaging

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// What make install puts there is in the packages too.
func TestPackagesHoldWhatInstallPuts(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	nfpm, err := os.ReadFile("../../packaging/nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	installed := regexp.MustCompile(`install -D -m \d+ (configs/\S+) `).FindAllStringSubmatch(string(makefile), -1)
	if len(installed) < 8 {
		t.Fatalf("make install puts %d files of configs, want 8 or more: %v", len(installed), installed)
	}
	for _, file := range installed {
		if !strings.Contains(string(nfpm), "{src: "+file[1]+",") {
			t.Errorf("%s is in no package", file[1])
		}
	}
}

package scenarios

import (
	"bytes"
	"context"
	"flag"
	"os"
	"strings"
	"testing"

	"timeball/internal/scenario"
	"timeball/internal/simulate"
)

var update = flag.Bool("update", false, "write the worked example's table and picture into docs")

const (
	exampleFile  = "example/branch-office.yaml"
	docsFile     = "../../docs/simulate.md"
	pictureFile  = "../../docs/img/branch-office.svg"
	exampleBegin = "<!-- example: begin -->\n"
	exampleEnd   = "<!-- example: end -->"
)

// TestDocsShowTheExample holds the worked example of docs/simulate.md against the
// scenario: its hosts, and a picture. Figures change with the estimator; -update
// writes them anew:
//
//	go test -run TestDocsShowTheExample -update ./test/scenarios
func TestDocsShowTheExample(t *testing.T) {
	docs, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(docs), exampleBegin)
	table, after, closed := strings.Cut(rest, exampleEnd)
	if !found || !closed {
		t.Fatalf("%s has no place for the example's table", docsFile)
	}
	s, err := scenario.Load(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		table = writeExample(t, s)
		if err := os.WriteFile(docsFile, []byte(before+exampleBegin+table+exampleEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range s.Hosts {
		if !strings.Contains(table, " "+s.Hosts[i].Name+" ") {
			t.Errorf("the table in %s has no host %s; run with -update", docsFile, s.Hosts[i].Name)
		}
	}
	if picture, err := os.ReadFile(pictureFile); err != nil || !bytes.Contains(picture, []byte(s.Description)) {
		t.Errorf("%s is not the example's picture (%v); run with -update", pictureFile, err)
	}
}

// writeExample runs the example, draws its picture and returns its table.
func writeExample(t *testing.T, s *scenario.Scenario) string {
	t.Helper()
	result, err := simulate.Run(context.Background(), s, simulate.Options{Series: true})
	if err != nil {
		t.Fatal(err)
	}
	var table, picture bytes.Buffer
	if err := result.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	if err := result.WriteSVG(&picture); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pictureFile, picture.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return "```\n" + table.String() + "```\n"
}

// TestDocsShowTheSmear holds the picture of docs/refclocks.md against its scenario; -update
// draws it anew.
func TestDocsShowTheSmear(t *testing.T) {
	const smearPicture = "../../docs/img/smear.svg"
	s, err := scenario.Load("example/smear.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		result, err := simulate.Run(context.Background(), s, simulate.Options{Series: true})
		if err != nil {
			t.Fatal(err)
		}
		var picture bytes.Buffer
		if err := result.WriteSVG(&picture); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(smearPicture, picture.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if picture, err := os.ReadFile(smearPicture); err != nil || !bytes.Contains(picture, []byte(s.Description)) {
		t.Errorf("%s is not the picture of %q (%v); run with -update", smearPicture, s.Description, err)
	}
}

package archtest

import (
	"os"
	"path/filepath"
	"testing"
)

// root is the module's: this package lies two below it.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("the module's root: %v", err)
	}
	return dir
}

func load(t *testing.T) *Tree {
	t.Helper()
	tree, err := Load(root(t))
	if err != nil {
		t.Fatalf("load the tree: %v", err)
	}
	return tree
}

func report(t *testing.T, found []string) {
	t.Helper()
	for _, f := range found {
		t.Error(f)
	}
}

func TestEveryPackageHasARoom(t *testing.T)         { report(t, CheckRooms(load(t))) }
func TestNoImportGoesUpOrSideways(t *testing.T)     { report(t, CheckLayers(load(t))) }
func TestTheCoreIsPure(t *testing.T)                { report(t, CheckPurity(load(t))) }
func TestGoroutinesStartInTheirRooms(t *testing.T)  { report(t, CheckGoroutines(load(t))) }
func TestOnlyTheClockTouchesTheClock(t *testing.T)  { report(t, CheckClockCalls(load(t))) }
func TestOnlyTheEngineSaysWhatItMeans(t *testing.T) { report(t, CheckMeaning(load(t))) }
func TestNoDoorIsUnused(t *testing.T)               { report(t, CheckDoors(load(t))) }
func TestNoOptionIsForTestsOnly(t *testing.T)       { report(t, CheckOptions(load(t))) }
func TestSizes(t *testing.T)                        { report(t, CheckSizes(load(t))) }

func TestNoMapOrderShowsInTheCore(t *testing.T) {
	tree := load(t)
	var pure []string
	for _, p := range tree.Program() {
		if Rooms[p.Path].Pure {
			pure = append(pure, "./"+p.Path)
		}
	}
	if len(pure) == 0 {
		t.Skip("no pure room has been built yet")
	}
	built, err := Build(tree.Root, pure)
	if err != nil {
		t.Fatal(err)
	}
	report(t, CheckMapOrder(tree, built))
}

func TestText(t *testing.T) {
	found, err := CheckText(root(t))
	if err != nil {
		t.Fatal(err)
	}
	report(t, found)
}

// The plan itself: a door to the side leads to a room of the same layer, and no two
// rooms open onto one another.
func TestThePlanHasNoCircle(t *testing.T) {
	for from, room := range Rooms {
		for _, name := range room.Beside {
			to, ok := Rooms["internal/"+name]
			if !ok || to.Layer != room.Layer {
				t.Errorf("%s opens onto %s, which is no room of layer %d", from, name, room.Layer)
			}
			for _, back := range to.Beside {
				if "internal/"+back == from {
					t.Errorf("%s and internal/%s open onto one another", from, name)
				}
			}
		}
	}
}

package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

// browser is Debian's Chromium without a screen, with a font.
type browser struct {
	t       *testing.T
	program peers.Program
	dir     string
}

func newBrowser(t *testing.T) *browser {
	b := &browser{t: t, program: peers.Unpack(t, "chromium-headless-shell", "usr/lib/chromium/chromium-headless-shell"), dir: t.TempDir()}
	common := peers.Unpack(t, "chromium-common", "usr/lib/chromium/icudtl.dat")
	resources, err := filepath.Glob(filepath.Join(filepath.Dir(common.Path), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range resources { // the program looks for them beside itself
		beside := filepath.Join(filepath.Dir(b.program.Path), filepath.Base(file))
		if _, err := os.Lstat(beside); errors.Is(err, os.ErrNotExist) {
			if err := os.Symlink(file, beside); err != nil {
				t.Skipf("the browser's package cannot be put together: %v", err)
			}
		}
	}
	font := peers.Unpack(t, "fonts-dejavu-core", "usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
	conf := fmt.Sprintf("<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"fonts.dtd\"><fontconfig><dir>%s</dir><cachedir>%s</cachedir></fontconfig>\n",
		filepath.Dir(font.Path), filepath.Join(b.dir, "fonts"))
	if err := os.WriteFile(filepath.Join(b.dir, "fonts.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// run shows a file in a window of that width.
func (b *browser) run(width int, dark bool, file string, args ...string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
	defer cancel()
	scheme := "1"
	if dark {
		scheme = "0"
	}
	args = append([]string{"--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir=" + filepath.Join(b.dir, "profile"),
		"--blink-settings=preferredColorScheme=" + scheme, fmt.Sprintf("--window-size=%d,1600", width)}, args...)
	cmd := exec.CommandContext(ctx, b.program.Path, append(args, "file://"+file)...)
	cmd.Env = append(append(os.Environ(), b.program.Env()...), "FONTCONFIG_FILE="+filepath.Join(b.dir, "fonts.conf"), "HOME="+b.dir)
	out, err := cmd.Output()
	if err != nil {
		b.t.Skipf("the browser does not run here: %v", err)
	}
	return string(out)
}

// measure is appended to a copy of the page, which itself runs no script.
const measure = `<script>
const shown = s => { const e = document.querySelector(s); return e ? getComputedStyle(e).display : "" };
let letters = 99; for (const t of document.querySelectorAll("svg text")) letters = Math.min(letters, t.getBoundingClientRect().height);
let cut = 0; for (const t of document.querySelectorAll("svg text")) if (t.getBoundingClientRect().left < t.closest("svg").getBoundingClientRect().left) cut++;
document.documentElement.setAttribute("data-seen", JSON.stringify({
  width: document.documentElement.scrollWidth, row: shown("tbody tr"), head: shown("thead"), charts: document.querySelectorAll("svg").length,
  letters: letters, cut: cut, back: getComputedStyle(document.body).backgroundColor }));
</script>`

// seen is what the measure finds.
type seen struct {
	Width, Charts   int
	Cut             int // texts of pictures that begin outside of them
	Row, Head, Back string
	Letters         float64
}

// The page of a running daemon, in a browser: cards on a phone of 390 pixels, a table on a
// desk, nothing wider than the window, letters that can be read, dark and light.
func TestThePageInABrowser(t *testing.T) {
	b := newBrowser(t)
	host := peers.Here(t)
	metrics, ntp := free(t, "tcp"), free(t, "udp")
	other := peers.Here(t)
	peers.Timeball(t, other, fmt.Sprintf("clock: {driver: virtual}\nlocal: {stratum: 1}\nserver: {listen: [\"%s\"], workers: 1, rate_limit: {}}\n", ntp))
	d := peers.Timeball(t, host, fmt.Sprintf("clock: {driver: virtual, virtual: {offset: 5ms}}\nserver: {listen: [\"%s\", \"192.0.2.1:123\"], workers: 1, rate_limit: {}}\n"+
		"sources: [{server: \"%s\", min_poll: -2, max_poll: -2}, {server: a-long-name-of-a-server-that-is-not.invalid}, {server: \"%s\"}]\nmetrics: {listen: \"%s\"}\n",
		free(t, "udp"), ntp, free(t, "udp"), metrics))
	if _, said, err := d.Run("wait", "--timeout", "120s"); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	var page string
	peers.Eventually(t, 2*time.Minute, "the page has a past and all that is to be told", func() (err error) { // where no resolver answers that takes a while
		if page, err = fetch(t.Context(), "http://"+metrics+"/"); err == nil && strings.Count(page, "<svg") < 3 {
			err = fmt.Errorf("%d pictures", strings.Count(page, "<svg"))
		}
		for _, want := range []string{name, "a-long-name-of-a-server-that-is-not.invalid", "does not resolve", "nothing is served at 192.0.2.1:123", "Requests received"} {
			if err == nil && !strings.Contains(page, want) {
				err = fmt.Errorf("%q is not on the page", want)
			}
		}
		return err
	})
	file := filepath.Join(b.dir, "page.html")
	if err := os.WriteFile(file, []byte(strings.Replace(page, `<meta http-equiv="refresh" content="10">`, "", 1)+measure), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		width     int
		dark      bool
		row, head string
	}{{390, false, "grid", "none"}, {390, true, "grid", "none"}, {1200, false, "table-row", "table-header-group"}, {1200, true, "table-row", "table-header-group"}} {
		got := b.look(test.width, test.dark, file)
		if got.Width > test.width || got.Row != test.row || got.Head != test.head || got.Charts < 3 || got.Letters < 8 || got.Cut > 0 {
			t.Errorf("%d pixels, dark %v: got %+v, want no wider, rows as %s, and pictures with letters of 8 pixels, none cut", test.width, test.dark, got, test.row)
		}
		if white := got.Back == "rgb(255, 255, 255)"; white == test.dark {
			t.Errorf("%d pixels, dark %v: got the background %s", test.width, test.dark, got.Back)
		}
		b.shows(test.width, test.dark, file)
	}
}

var seenText = regexp.MustCompile(`data-seen="([^"]*)"`)

func (b *browser) look(width int, dark bool, file string) (found seen) {
	b.t.Helper()
	match := seenText.FindStringSubmatch(b.run(width, dark, file, "--dump-dom"))
	if match == nil {
		b.t.Fatal("the browser shows nothing")
	}
	if err := json.Unmarshal([]byte(strings.ReplaceAll(match[1], "&quot;", `"`)), &found); err != nil {
		b.t.Fatal(err)
	}
	return found
}

// shows makes a picture of the page and looks whether there is anything on it.
func (b *browser) shows(width int, dark bool, file string) {
	b.t.Helper()
	shot := filepath.Join(b.dir, fmt.Sprintf("%d-%v.png", width, dark))
	b.run(width, dark, file, "--screenshot="+shot)
	f, err := os.Open(shot)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	picture, _, err := image.Decode(f)
	if err != nil {
		b.t.Fatal(err)
	}
	colours := map[string]bool{}
	for y := 0; y < picture.Bounds().Dy(); y += 3 {
		for x := 0; x < picture.Bounds().Dx(); x += 3 {
			colours[fmt.Sprint(picture.At(x, y))] = true
		}
	}
	if len(colours) < 20 {
		b.t.Errorf("%s: got %d colours, want a page with letters and lines", shot, len(colours))
	}
	if folder := os.Getenv("TIMEBALL_PAGES"); folder != "" {
		text, err := os.ReadFile(shot)
		if err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, filepath.Base(shot)), text, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

func fetch(ctx context.Context, address string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, "GET", address, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

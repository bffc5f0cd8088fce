package interop

import (
	"crypto/sha1"
	"fmt"
	"strings"
	"testing"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/smear"
	"timeball/test/peers"
)

// leapList is a list of leap seconds whose last one was at that moment.
func leapList(at time.Time) string {
	const unixEpoch = 2208988800
	rows := [][2]int64{{3692217600, 37}, {at.Unix() + unixEpoch, 38}}
	update, expiry := at.Unix()+unixEpoch-86400, at.Unix()+unixEpoch+300*86400
	digits, text := fmt.Sprint(update)+fmt.Sprint(expiry), fmt.Sprintf("#$ %d\n#@ %d\n", update, expiry)
	for _, row := range rows {
		digits += fmt.Sprint(row[0]) + fmt.Sprint(row[1])
		text += fmt.Sprintf("%d %d\n", row[0], row[1])
	}
	hash := sha1.Sum([]byte(digits))
	text += "#h"
	for i := 0; i < len(hash); i += 4 {
		text += fmt.Sprintf(" %08x", hash[i:i+4])
	}
	return text + "\n"
}

// chronyd and ntpd follow smeared time, two hours after a leap second, when it is 0.42 s
// ahead of UTC.
func TestOthersFollowSmearedTime(t *testing.T) {
	t.Parallel()
	leap := time.Now().Add(-2 * time.Hour).Truncate(time.Second)
	curve := smear.Smear{Leap: ntptime.WallOf(leap), Window: 24 * time.Hour}
	lab := peers.NewLab(t)
	server, client, other := lab.Host("server"), lab.Host("client"), lab.Host("other")
	list := server.Write("leap-seconds.list", leapList(leap))
	peers.Timeball(t, server, fmt.Sprintf(`
clock: {driver: observe, leap: {file: %s, mode: smear}}
local: {stratum: 2}
server: {}
`, list))
	c := peers.Chronyd(t, client, fmt.Sprintf("server %v minpoll 0 maxpoll 0 iburst", server.IPv4))
	c.Selects(30*time.Second, server.IPv4.String())
	reply, err := ask(client, server.IPv4, 4)
	if err != nil {
		t.Fatal(err)
	}
	now := ntptime.WallOf(time.Now())
	want := curve.Offset(now, true)
	if off := reply.Transmit.Wall(now).Sub(now); (off - want).Abs() > 50*time.Millisecond {
		t.Errorf("%v is served, and the curve is at %v", off, want)
	}
	n := peers.NTPsec(t, other, fmt.Sprintf("server %v minpoll 0 maxpoll 0 iburst", server.IPv4))
	if row := n.Selects(90*time.Second, server.IPv4.String()); !strings.HasPrefix(row.Fields[0], "254.") {
		t.Errorf("ntpd is shown the reference id %q, want 254.x of a server that smears", row.Fields[0])
	}
}

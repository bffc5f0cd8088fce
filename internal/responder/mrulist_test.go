package responder_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"timeball/internal/responder"
	"timeball/internal/wire"
)

var monitorAt = netip.MustParseAddr("192.0.2.99")

// reader reads the list of clients as ntpq does.
type reader struct {
	t       testing.TB
	w       *world
	monitor *responder.Monitor
	from    netip.Addr
}

func newReader(t testing.TB, clients int) *reader {
	r := &reader{t: t, w: newWorld(t), monitor: responder.NewMonitor([32]byte{7}), from: monitorAt}
	h := request(4)
	for i := range clients {
		r.w.askFrom(numbered(i), h.Append(nil))
		r.w.pass(time.Millisecond)
	}
	return r
}

func (r *reader) view() *responder.ControlView {
	return &responder.ControlView{Snapshot: r.w.snapshot, Now: r.w.now, Clients: r.w.clients}
}

// ask sends a query; code is that of an error, 0 for none.
func (r *reader) ask(opcode byte, data string) (values map[string]string, code uint16, datagrams int) {
	r.t.Helper()
	query := controlQuery(0x16, opcode, 0, data)
	reply, v := r.monitor.Answer(query, r.from, r.view())
	if v.Result != responder.Query {
		r.t.Fatalf("%q: got %v (%v), want an answer", data, v.Result, v.Reason)
	}
	status, failed, text := assemble(r.t, query, reply)
	if failed {
		return nil, status >> 8, len(reply)
	}
	return parse(text), 0, len(reply)
}

func (r *reader) nonce() string {
	r.t.Helper()
	values, code, _ := r.ask(12, "")
	if code != 0 || values["nonce"] == "" {
		r.t.Fatalf("got error %d, %v, want a nonce", code, values)
	}
	return "nonce=" + values["nonce"]
}

// row is an entry of the list.
type row struct{ addr, last, first, ct, dr, rs, mv string }

func rowsOf(values map[string]string) []row {
	var rows []row
	for i := range 300 {
		n := "." + strconv.Itoa(i)
		if values["addr"+n] == "" {
			break
		}
		rows = append(rows, row{values["addr"+n], values["last"+n], values["first"+n], values["ct"+n], values["dr"+n], values["rs"+n], values["mv"+n]})
	}
	return rows
}

// all reads the whole list, in parts of so many fragments.
func (r *reader) all(first string, size string) (rows []row, parts int) {
	r.t.Helper()
	nonce := r.nonce()
	data := nonce + ", " + size + first
	for parts = 1; parts < 2000; parts++ {
		values, code, datagrams := r.ask(10, data)
		if code != 0 || datagrams > 32 {
			r.t.Fatalf("part %d: got error %d, %d datagrams", parts, code, datagrams)
		}
		rows = append(rows, rowsOf(values)...)
		if values["now"] != "" {
			return rows, parts
		}
		if values["nonce"] == "" {
			r.t.Fatal("a part without a new nonce")
		}
		data = nonce + ", " + size
		for i := range min(3, len(rows)) { // the newest first
			e := rows[len(rows)-1-i]
			data += fmt.Sprintf(", addr.%d=%s, last.%d=%s", i, e.addr, i, e.last)
		}
	}
	r.t.Fatal("the list does not end")
	return nil, 0
}

// TestRFC9327_4_ReadMRUList: the whole list, in parts, each client once, the one silent
// longest first, also while clients ask and the clock is slewed.
func TestRFC9327_4_ReadMRUList(t *testing.T) {
	r := newReader(t, 1000)
	for _, size := range []string{"frags=32", "frags=1", "limit=10", "limit=100000, frags=0"} {
		rows, parts := r.all("", size)
		seen := map[string]bool{}
		for i, e := range rows {
			seen[e.addr] = true
			if i > 0 && e.last <= rows[i-1].last {
				t.Fatalf("%s: row %d, of %s, is not later than the one before, of %s", size, i, e.last, rows[i-1].last)
			}
		}
		if len(rows) != 1000 || len(seen) != 1000 || parts < 4 {
			t.Errorf("%s: got %d rows of %d clients in %d parts, want 1000 of 1000 in some", size, len(rows), len(seen), parts)
		}
	}
	rows, _ := r.all(", recent=7", "frags=32")
	if len(rows) != 7 || rows[6].addr != netip.AddrPortFrom(numbered(999).Addr(), 0).String() {
		t.Errorf("recent=7: got %d rows, want the last 7", len(rows))
	}
}

func TestRFC9327_4_MRUListGoesOnWhileClientsAsk(t *testing.T) {
	r := newReader(t, 300)
	nonce := r.nonce()
	values, _, _ := r.ask(10, nonce+", limit=100")
	first := rowsOf(values)
	h := request(4)
	for i := range 95 { // nearly all that the reader has come again
		r.w.askFrom(netip.AddrPortFrom(numbered(i).Addr(), 4000), h.Append(nil))
	}
	r.w.now.Wall = r.w.now.Wall.Add(30 * time.Millisecond) // slewed
	known := ""
	for i := range 16 {
		e := first[99-i]
		known += fmt.Sprintf(", addr.%d=%s, last.%d=%s", i, e.addr, i, e.last)
	}
	values, code, _ := r.ask(10, nonce+", limit=100"+known)
	if rows := rowsOf(values); code != 0 || len(rows) != 100 || rows[0].addr != netip.AddrPortFrom(numbered(100).Addr(), 0).String() {
		t.Fatalf("got error %d and %d rows, want to go on at client 100", code, len(rows))
	}
	for i := range 300 {
		r.w.askFrom(netip.AddrPortFrom(numbered(i).Addr(), 4000), h.Append(nil))
	}
	if _, code, _ = r.ask(10, nonce+", limit=100"+known); code != 5 {
		t.Errorf("none is as it was: got error %d, want 5, so that the reader begins anew", code)
	}
}

func TestRFC9327_4_MRUListTellsOfEachClient(t *testing.T) {
	r := newReader(t, 0)
	r.w.policy.Limit = &responder.RateLimit{Interval: time.Hour, Burst: 2, Leak: 30, Kiss: true}
	h := request(3)
	for range 5 {
		r.w.askFrom(netip.MustParseAddrPort("[2001:db8:0:7f1::9]:5000"), h.Append(nil))
		r.w.pass(10 * time.Second)
	}
	rows, _ := r.all("", "frags=32")
	if len(rows) != 1 || rows[0].addr != "[2001:db8:0:700::]:0" || rows[0].ct != "5" || rows[0].dr != "3" || rows[0].rs != "0x420" || rows[0].mv != "27" {
		t.Fatalf("got %+v, want one row of 5 requests, 3 dropped, limited and kissed, version 3 mode 3", rows)
	}
	if got, want := rows[0].last, r.w.later(-10*time.Second).Wall.Timestamp().String(); got != "0x"+want {
		t.Errorf("last: got %s, want 0x%s", got, want)
	}
	if got, want := rows[0].first, r.w.later(-50*time.Second).Wall.Timestamp().String(); got[:10] != "0x"+want[:8] {
		t.Errorf("first: got %s, want about 0x%s", got, want)
	}
	for filter, want := range map[string]int{
		", mincount=5": 1, ", mincount=6": 0, ", mindrop=3": 1, ", mindrop=4": 0, ", maxlstint=10": 1, ", maxlstint=9": 0,
		", minlstint=10": 1, ", minlstint=11": 0, ", resall=0x20": 1, ", resall=0x21": 0, ", resany=0x421": 1, ", resany=0x1": 0,
	} {
		if rows, _ := r.all(filter, "frags=32"); len(rows) != want {
			t.Errorf("%s: got %d rows, want %d", filter, len(rows), want)
		}
	}
}

// Nobody gets the list in another's name: a nonce is of one address and of a moment.
func TestRFC9327_4_MRUListWantsANonce(t *testing.T) {
	r := newReader(t, 3)
	good := r.nonce()
	stranger := *r
	stranger.from = netip.MustParseAddr("192.0.2.98")
	other := stranger.nonce()
	for _, test := range []struct {
		name, data string
		want       uint16
	}{
		{"a good one", good + ", frags=32", 0},
		{"none", "frags=32", 6},
		{"another address's", other + ", frags=32", 6},
		{"one digit off", good[:len(good)-1] + "x, frags=32", 6},
		{"cut", good[:20] + ", frags=32", 6},
		{"neither frags nor limit", good, 6},
		{"a filter that there is not", good + ", frags=32, laddr=192.0.2.1", 2},
		{"a value that is none", good + ", frags=many", 2},
		{"too many known", good + ", frags=1, addr.16=192.0.2.1:0", 2},
	} {
		if _, code, _ := r.ask(10, test.data); code != test.want {
			t.Errorf("%s: got error %d, want %d", test.name, code, test.want)
		}
	}
	r.w.pass(17 * time.Second)
	if _, code, _ := r.ask(10, good+", frags=32"); code != 6 {
		t.Errorf("an old one: got error %d, want 6", code)
	}
	r.w.clients = responder.NewClients(100, seed, true)
	if _, code, _ := r.ask(10, r.nonce()+", frags=32"); code != 7 {
		t.Errorf("with privacy: got error %d, want 7", code)
	}
}

// Control queries have a limit of their own: a flood gets little, this host and the parts
// of a long list are not in its way, and one asker's flood is not another's.
func TestControlQueriesAreLimited(t *testing.T) {
	r := newReader(t, 0)
	query := controlQuery(0x16, 2, 0, "")
	answered := func(from string, n int) (count int) {
		for range n {
			if _, v := r.monitor.Answer(query, netip.MustParseAddr(from), r.view()); v.Result == responder.Query {
				count++
			} else if v.Result != responder.Limited || v.Reason != responder.ReasonRate {
				t.Fatalf("got %v (%v), want a limit", v.Result, v.Reason)
			}
		}
		return count
	}
	if got := answered("192.0.2.7", 2000); got < 400 || got > 600 {
		t.Errorf("got %d answers to 2000 queries at once, want some 500", got)
	}
	r.w.pass(time.Second)
	if got := answered("192.0.2.7", 2000); got < 40 || got > 60 {
		t.Errorf("got %d answers a second later, want 50", got)
	}
	if got := answered("192.0.2.8", 300); got != 300 {
		t.Errorf("got %d answers to another, want 300", got)
	}
	for _, own := range []string{"127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"} {
		if got := answered(own, 2000); got != 2000 {
			t.Errorf("%s: got %d answers, want all 2000", own, got)
		}
	}
	for i := range 3000 { // addresses of a forger
		at := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
		_, v := r.monitor.Answer(query, at, r.view())
		if limited := v.Result == responder.Limited; limited != (i >= 1022) {
			t.Fatalf("address %d: limited %v", i, limited)
		}
	}
	r.w.pass(time.Hour)
	if got := answered("203.0.113.5", 10); got != 10 {
		t.Errorf("got %d answers after the flood, want 10", got)
	}
	many := newReader(t, 20000)
	if rows, parts := many.all("", "frags=32"); len(rows) != 20000 || parts < 100 {
		t.Errorf("a long list: got %d rows in %d parts, want 20000", len(rows), parts)
	}
}

// Every variable that ntpq of ntpsec 1.2.2 asks for by name is known.
func TestVariablesOfNtpq(t *testing.T) {
	view := controlView(t)
	view.Counts = func() responder.Counts {
		c := responder.Counts{Uptime: time.Hour, Keys: 3, Lost: 4, Shut: 5, Sent: 6, SendErrors: 7}
		c.Packets[responder.Answered][4][wire.ModeClient] = 100
		c.Packets[responder.Interleaved][3][wire.ModeClient] = 10
		c.Packets[responder.Limited][1][wire.ModeClient] = 1
		c.Packets[responder.RateKoD][1][wire.ModeReserved] = 2
		c.Packets[responder.Query][2][wire.ModeControl] = 9
		c.Packets[responder.Denied][4][wire.ModeClient] = 12
		c.Reasons[responder.ReasonAccess], c.Reasons[responder.ReasonBadMAC] = 7, 3
		return c
	}
	for _, test := range []struct {
		association uint16
		names       string
		want        map[string]string
	}{
		{0, "peeradr,peermode,leap,stratum,precision,rootdelay,rootdisp,rootdist,refid,reftime,sys_jitter,clk_jitter,clk_wander,authdelay",
			map[string]string{"peeradr": "198.51.100.5:123", "peermode": "3", "rootdist": "6.650", "authdelay": "0.000"}},
		{0, "koffset,kfreq,kmaxerr,kesterr,kstflags,ktimeconst,kprecis,kfreqtol,kppsfreq,kppsstab,kppsjitter,kppscalibdur,kppscalibs,kppsjitexc,kppsstbexc,kppscaliberrs",
			map[string]string{"koffset": "1.500000", "kfreq": "-12.500000", "ktimeconst": "6", "kfreqtol": "500", "kstflags": "0x2000"}},
		{0, "ss_uptime,ss_numctlreq", map[string]string{"ss_uptime": "3600", "ss_numctlreq": "9"}},
		{0, "ss_reset,ss_received,ss_thisver,ss_oldver,ss_ver1,ss_ver1client,ss_ver1zero,ss_ver1symm,ss_badformat,ss_badauth,ss_declined,ss_restricted,ss_limited,ss_kodsent,ss_processed," +
			"ss_reset_r,ss_received_r,ss_thisver_r,ss_oldver_r,ss_ver1_r,ss_ver1client_r,ss_ver1zero_r,ss_ver1symm_r,ss_badformat_r,ss_badauth_r,ss_declined_r,ss_restricted_r,ss_limited_r,ss_kodsent_r,ss_processed_r",
			map[string]string{"ss_received": "134", "ss_thisver": "112", "ss_oldver": "22", "ss_ver1": "3", "ss_ver1client": "1", "ss_ver1zero": "2",
				"ss_badauth": "3", "ss_restricted": "7", "ss_declined": "2", "ss_limited": "3", "ss_kodsent": "2", "ss_processed": "110", "ss_processed_r": "110"}},
		{0, "mru_enabled,mru_hashslots,mru_depth,mru_deepest,mru_maxdepth,mru_mindepth,mru_maxage,mru_minage,mru_mem,mru_maxmem,mru_exists,mru_new,mru_recycleold,mru_recyclefull,mru_none,mru_oldest_age",
			map[string]string{"mru_enabled": "0"}},
		{0, "authreset,authkeys,authfreek,authklookups,authknotfound,authencrypts,authdigestencrypts,authcmacencrypts,authdecrypts,authdigestdecrypts,authdigestfails,authcmacdecrypts,authcmacfails,authkuncached,authkexpired",
			map[string]string{"authkeys": "3", "authreset": "3600"}},
		{0, "iostats_reset,total_rbuf,free_rbuf,used_rbuf,rbuf_lowater,io_dropped,io_ignored,io_received,io_sent,io_sendfailed,io_wakeups,io_goodwakeups",
			map[string]string{"io_dropped": "4", "io_ignored": "5", "io_received": "134", "io_sent": "6", "io_sendfailed": "7"}},
		{0, "timerstats_reset,timer_overruns,timer_xmts", map[string]string{"timer_overruns": "0"}},
		{1, "srcadr,dstadr,timerec,timer,timereach,sent,received,badauth,bogusorg,oldpkt,seldisp,selbroken,candidate,ntscookies",
			map[string]string{"srcadr": "198.51.100.5", "received": "20", "candidate": "6"}},
	} {
		query := controlQuery(0x16, 2, test.association, test.names)
		_, failed, data := assemble(t, query, control(query, view))
		if failed {
			t.Errorf("%s: got an error", test.names)
			continue
		}
		got := parse(data)
		checkValues(t, got, test.want)
		for _, name := range strings.Split(test.names, ",") {
			if got[name] == "" && !slices.Contains([]string{"timer", "timereach", "ntscookies"}, name) {
				t.Errorf("%s has no value", name)
			}
		}
	}
	view.Snapshot.SystemPeer = 0
	query := controlQuery(0x16, 2, 0, "peeradr,peermode,rootdist")
	if _, failed, data := assemble(t, query, control(query, view)); failed || string(data) != "rootdist=6.650\r\n" {
		t.Errorf("without a system peer: got %q, want what there is", data)
	}
}

// A source that has never been heard has the polls that are configured.
func TestPollOfASourceNeverHeard(t *testing.T) {
	view := controlView(t)
	view.Snapshot.Sources[1].Poll = 6
	query := controlQuery(0x16, 2, 2, "hpoll,ppoll")
	if _, _, data := assemble(t, query, control(query, view)); string(data) != "hpoll=6, ppoll=6\r\n" {
		t.Errorf("got %q, want 6 and 6", data)
	}
	view.Snapshot.PollInterval = 0
	query = controlQuery(0x16, 2, 0, "tc")
	if _, _, data := assemble(t, query, control(query, view)); string(data) != "tc=6\r\n" {
		t.Errorf("got %q, want tc=6", data)
	}
}

func FuzzMRUList(f *testing.F) {
	r := newReader(f, 50)
	r.from = netip.MustParseAddr("127.0.0.1")
	nonce := r.nonce()
	f.Add(nonce + ", frags=32")
	f.Add(nonce + ", limit=5, addr.0=192.0.2.1:0, last.0=0x00000000.00000000, recent=3")
	f.Add("nonce=, addr.=, last.x=")
	f.Fuzz(func(t *testing.T, data string) {
		query := controlQuery(0x16, 10, 0, data)
		binary.BigEndian.PutUint16(query[10:], uint16(len(data)))
		reply, v := r.monitor.Answer(query, r.from, r.view())
		if v.Result == responder.Query {
			if assemble(t, query, reply); len(reply) > 32 {
				t.Errorf("%q: got %d datagrams", data, len(reply))
			}
		}
	})
}

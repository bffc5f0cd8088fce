package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"timeball/test/peers"
)

// A rig is a server's host and a client's, joined by a cable. What arrives is handled by a
// thread of the kernel at either end, on the server's core and on the generator's, so that
// each core has its own work; or, without threads, at once by who sent it, so that nobody is
// woken for it. Requests are made and replies judged in BPF at the client's end.
type rig struct {
	server, client *peers.Host
	address        netip.Addr // the server's, on the cable
	port           int
	objects        drivenObjects
	primer         *ebpf.Program // makes the first requests of a closed loop
	template       []byte
	cable          int           // index of the client's end
	turn           time.Duration // of the generator, when it sends nothing
	threads        [2]int        // of the kernel: at the server's end, at the client's
	links          []link.Link
	forgiven       [epochs]uint64 // requests of each epoch that are known to be lost
	counts         drivenCounts   // as last read
}

const (
	serverEnd = 0
	clientEnd = 1

	epochs    = 64 // as in generator.c, of 1 << epochBits ns
	epochBits = 24
	lostAfter = 12 // epochs, 200 ms

	liveFrames = 2 // BPF_F_TEST_XDP_LIVE_FRAMES
	batch      = 64

	readyRequests = 64 // as in generator.c
	readyPorts    = 40000

	clientNetwork   = 10<<24 | 97<<16
	clientAddresses = 1 << 14
)

// newRig makes a rig for a server at a port. It fails where there is no BPF, no native XDP or
// no thread for the interface; errUnsupported is in the error then.
func newRig(lab *peers.Lab, name string, port int, threaded bool) (*rig, error) {
	r := &rig{server: lab.Host("s" + name), client: lab.Host("c" + name), port: port}
	var clientAddress netip.Addr
	r.address, clientAddress = lab.Cable(r.server, r.client)
	for end, h := range []*peers.Host{r.server, r.client} {
		if err := r.likeCard(h, end, threaded); err != nil {
			return nil, err
		}
	}
	if err := loadDrivenObjects(&r.objects, nil); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnsupported, err)
	}
	request := make([]byte, headerSize) // without what the program fills in
	request[0], request[2] = 4<<3|3, 6
	r.primer = r.objects.Prime
	r.template = frameOf(netip.AddrPortFrom(clientAddress, 40000), netip.AddrPortFrom(r.address, uint16(port)), 0, request)
	return r, r.client.Inside(func() error {
		nic, err := net.InterfaceByName("cable0")
		if err != nil {
			return err
		}
		r.cable = nic.Index
		return r.attach(r.objects.Turn, nic.Index)
	})
}

var errUnsupported = errors.New("no XDP load here")

// likeCard has an end take packets in batches (GRO), and checksums be made by who asks; where
// it is threaded, by a thread of the kernel on its core.
func (r *rig) likeCard(h *peers.Host, end int, threaded bool) error {
	before := napiThreads()
	for _, argv := range [][]string{
		{"ethtool", "-K", "cable0", "gro", "on", "tx", []string{"on", "off"}[end]}, // a program for checksums sees no unfinished ones
		{"sh", "-c", map[bool]string{false: "true", true: "echo 1 >/sys/class/net/cable0/threaded"}[threaded]},
	} {
		if _, complaints, err := h.Run(nil, argv...); err != nil {
			return fmt.Errorf("%w: %v: %w: %s", errUnsupported, argv, err, complaints)
		}
	}
	if !threaded {
		return nil
	}
	for _, pid := range napiThreads() {
		if slices.Contains(before, pid) {
			continue
		}
		r.threads[end] = pid
		return put(pid, end, priorityPackets)
	}
	return fmt.Errorf("%w: no thread for the interface", errUnsupported)
}

// napiThreads are the process ids of the kernel's threads of all interfaces named cable0.
func napiThreads() (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, name := range names {
		text, _ := os.ReadFile(name)
		if pid, err := strconv.Atoi(strings.Split(name, "/")[2]); err == nil && strings.HasPrefix(string(text), "napi/cable0-") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// The order on a core: packets are handled before programs run, as the kernel itself would
// have it. Who primes a closed loop must not wait for it; who sends all the time must wait.
const (
	priorityProgram = 1
	priorityPackets = 2
	priorityPrimer  = 3
)

// put has a thread run on a core before all that has no such priority (SCHED_FIFO, sched(7)).
func put(thread, core, priority int) error {
	var set unix.CPUSet
	set.Set(core)
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: uint32(priority)}
	if err := errors.Join(unix.SchedSetaffinity(thread, &set), unix.SchedSetAttr(thread, attr, 0)); err != nil {
		return fmt.Errorf("%w: %w", errUnsupported, err)
	}
	return nil
}

// putAll puts all threads of a program on the core of an end.
func putAll(p *peers.Process, end int) error {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", p.Pid()))
	for _, thread := range threads {
		id, err := strconv.Atoi(filepath.Base(thread))
		if err == nil {
			err = put(id, end, priorityProgram)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// attach puts a program in the driver of an interface of this thread's namespace.
func (r *rig) attach(program *ebpf.Program, index int) error {
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: index, Flags: link.XDPDriverMode})
	if err != nil {
		return fmt.Errorf("%w: %w", errUnsupported, err)
	}
	r.links = append(r.links, l)
	return nil
}

// drains has the server's end drop all requests.
func (r *rig) drains() error {
	return r.server.Inside(func() error {
		nic, err := net.InterfaceByName("cable0")
		if err != nil {
			return err
		}
		return r.attach(r.objects.Drain, nic.Index)
	})
}

func (r *rig) close() {
	for _, l := range r.links {
		_ = l.Close()
	}
	_ = r.objects.Close()
}

// ready has the rig send requests that are ready, all of one length, in a closed loop.
func (r *rig) ready(requests [][]byte) error {
	for i := range uint32(readyRequests) {
		r.template = frameOf(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 97, 0, 0}), readyPorts), netip.AddrPortFrom(r.address, uint16(r.port)), 0, requests[int(i)%len(requests)])
		var words drivenReady
		if len(r.template) > len(words.Words)*2 {
			return fmt.Errorf("a request of %d bytes is too long for the generator", len(r.template))
		}
		for j := range len(r.template) / 2 {
			words.Words[j] = binary.NativeEndian.Uint16(r.template[2*j:])
		}
		if err := r.objects.Prepared.Put(i, &words); err != nil {
			return err
		}
	}
	r.primer = r.objects.PrimeReady
	return r.links[0].Update(r.objects.TurnReady)
}

// configure says whether replies become requests.
func (r *rig) configure(closed bool) error {
	s := r.settings(closed)
	return r.objects.Configured.Put(uint32(0), &s)
}

func (r *rig) settings(closed bool) drivenSettings {
	s := drivenSettings{Clients: swap32(clientNetwork), Addresses: clientAddresses - 1, Port: swap16(uint16(r.port)), Size: uint32(len(r.template))}
	if closed {
		s.Closed = 1
	}
	copy(s.Frame[:], r.template) // of a ready request only the beginning, which is not used
	return s
}

func swap32(n uint32) uint32 {
	return binary.NativeEndian.Uint32(binary.BigEndian.AppendUint32(nil, n))
}
func swap16(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// prime sends n requests.
func (r *rig) prime(n int) error {
	for n > 0 {
		some := min(n, batch)
		if err := r.send(r.primer, some, some); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// send runs a program for so many frames, which it may send, in batches.
func (r *rig) send(program *ebpf.Program, frames, batch int) error {
	// struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
	context := [6]uint32{1: uint32(len(r.template)), 3: uint32(r.cable)}
	_, err := program.Run(&ebpf.RunOptions{Data: r.template, Context: context, Repeat: uint32(frames), BatchSize: uint32(batch), Flags: liveFrames})
	if err != nil {
		return fmt.Errorf("%w: %w", errUnsupported, err)
	}
	return nil
}

// read sums what all processors have counted into r.counts.
func (r *rig) read() error {
	var each []drivenCounts
	if err := r.objects.Counted.Lookup(uint32(0), &each); err != nil {
		return err
	}
	r.counts = drivenCounts{}
	for i := range each {
		c := &each[i]
		r.counts.Sent += c.Sent
		r.counts.Received += c.Received
		r.counts.Invalid += c.Invalid
		r.counts.Longer += c.Longer
		for j := range c.Waiting {
			r.counts.Waiting[j] += c.Waiting[j]
		}
		for j := range c.Latency {
			r.counts.Latency[j] += c.Latency[j]
		}
	}
	return nil
}

// lost is how many requests have been found lost since the last time, as of the last read.
func (r *rig) lost() (n int) {
	now := int(monotonic() >> epochBits)
	for age := lostAfter; age < epochs-2; age++ {
		e := (now - age) % epochs
		missing := r.counts.Waiting[e] - r.forgiven[e]
		r.forgiven[e] += missing
		n += int(int64(missing))
	}
	return n
}

func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // there is one on every Linux
	return t.Nano()
}

// drive is what came of a load, and what it cost.
type drive struct {
	sent, received, invalid, lost uint64
	took                          time.Duration
	p50                           time.Duration
	// The time that the server's threads, those of the kernel at either end, and the
	// generator's have run; and that both cores were not idle, whoever had them.
	process, serverThread, clientThread, generator, busy time.Duration
}

// work is the time a request that was sent has cost at both ends, but in the generator.
func (d *drive) work() time.Duration { return d.process + d.serverThread + d.clientThread }

func (d *drive) rate() float64 { return float64(d.received) / d.took.Seconds() }

func (d drive) plus(e drive) drive {
	return drive{
		d.sent + e.sent, d.received + e.received, d.invalid + e.invalid, d.lost + e.lost, d.took + e.took, 0,
		d.process + e.process, d.serverThread + e.serverThread, d.clientThread + e.clientThread, d.generator + e.generator, d.busy + e.busy,
	}
}

// run lets load work in the client's namespace, on the generator's core, and measures.
func (r *rig) run(process *peers.Process, closed bool, load func(began time.Time) (lost int, err error)) (drive, error) {
	var d drive
	err := r.client.Inside(func() error {
		priority := priorityProgram
		if closed {
			priority = priorityPrimer
		}
		if err := errors.Join(put(0, clientEnd, priority), r.configure(closed), r.read()); err != nil {
			return err
		}
		r.lost()
		before, spent, began := r.counts, r.spent(process), time.Now()
		lost, err := load(began)
		if err != nil {
			return err
		}
		d = r.spent(process).since(spent)
		d.took = time.Since(began)
		if err := errors.Join(r.configure(false), r.read()); err != nil {
			return err
		}
		if !closed { // the last replies
			time.Sleep(20 * time.Millisecond)
			if err := r.read(); err != nil {
				return err
			}
		}
		d.sent, d.received, d.invalid = r.counts.Sent-before.Sent, r.counts.Received-before.Received, r.counts.Invalid-before.Invalid
		d.lost = uint64(lost)
		for i := range before.Latency {
			before.Latency[i] = r.counts.Latency[i] - before.Latency[i]
		}
		d.p50 = medianOf(before.Latency[:])
		time.Sleep(20 * time.Millisecond)
		return nil
	})
	return d, err
}

// medianOf is the median of a histogram in steps of 128 ns.
func medianOf(buckets []uint64) time.Duration {
	var total, sum uint64
	for _, n := range buckets {
		total += n
	}
	for i, n := range buckets {
		if sum += n; sum > total/2 {
			return time.Duration(i<<7 + 64)
		}
	}
	return 0
}

// spent is what all have spent so far.
func (r *rig) spent(process *peers.Process) (d drive) {
	if process != nil {
		d.process = process.Worked()
	}
	d.serverThread, d.clientThread = ran(r.threads[serverEnd]), ran(r.threads[clientEnd])
	var own unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &own)
	d.generator, d.busy = time.Duration(own.Nano()), busy()
	return d
}

func (d drive) since(e drive) drive {
	return drive{process: d.process - e.process, serverThread: d.serverThread - e.serverThread,
		clientThread: d.clientThread - e.clientThread, generator: d.generator - e.generator, busy: d.busy - e.busy}
}

// ran is how long a thread has run, by the scheduler's account.
func ran(pid int) time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	first, _, _ := strings.Cut(string(text), " ")
	ns, _ := strconv.ParseInt(first, 10, 64)
	return time.Duration(ns)
}

// busy is how long the first two cores have not been idle (proc_stat(5)), in steps of 10 ms.
func busy() (sum time.Duration) {
	text, _ := os.ReadFile("/proc/stat")
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 9 || fields[0] != "cpu0" && fields[0] != "cpu1" {
			continue
		}
		for i, field := range fields[1:9] {
			if n, err := strconv.ParseInt(field, 10, 64); err == nil && i != 3 && i != 4 { // idle, iowait
				sum += time.Duration(n) * 10 * time.Millisecond
			}
		}
	}
	return sum
}

// closed keeps n requests unanswered.
func (r *rig) closed(process *peers.Process, n int, length time.Duration) (drive, error) {
	return r.run(process, true, func(began time.Time) (int, error) {
		total := 0
		for due := n; time.Since(began) < length; due = r.lost() {
			total += due
			if err := r.prime(due); err != nil {
				return 0, err
			}
			time.Sleep(5 * time.Millisecond)
			if err := r.read(); err != nil {
				return 0, err
			}
		}
		return total - n, nil
	})
}

// open sends so many requests a second, in bursts. A call of the kernel ends with a wait of
// milliseconds, so one lasts for all, and waits between requests by running the program.
func (r *rig) open(process *peers.Process, rate float64, burst int, length time.Duration) (drive, error) {
	return r.run(process, false, func(time.Time) (int, error) {
		if r.turn == 0 {
			if err := r.calibrate(); err != nil {
				return 0, err
			}
		}
		s := r.settings(false)
		s.Burst, s.Every, s.Next = uint16(burst), uint64(float64(burst)/rate*1e9), uint64(monotonic())
		if err := r.objects.Configured.Put(uint32(0), &s); err != nil {
			return 0, err
		}
		return 0, r.send(r.objects.Pace, int(length/r.turn), 1)
	})
}

// calibrate finds how long a turn of the program takes that sends nothing.
func (r *rig) calibrate() error {
	s := r.settings(false)
	s.Next = math.MaxUint64
	if err := r.objects.Configured.Put(uint32(0), &s); err != nil {
		return err
	}
	const turns = 1 << 18
	own := func() time.Duration {
		var t unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
		return time.Duration(t.Nano())
	}
	before := own()
	err := r.send(r.objects.Pace, turns, 1)
	r.turn = max((own()-before)/turns, 1)
	return err
}

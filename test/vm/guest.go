package vm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"timeball/test/vm/page"
)

// Guest is a running machine.
type Guest struct {
	Net   *Network
	Clock *Sampler
	Dir   string

	qemu  *exec.Cmd
	agent net.Conn
	lines *bufio.Reader
	qmp   net.Conn
	say   sync.Mutex

	memory []byte
	shift  time.Duration
	began  time.Time // by this machine's clock, which is read once
	moved  sync.RWMutex
}

// Options of a machine's start.
type Options struct {
	RTC   time.Duration // what its hardware clock reads is later than the truth by this
	Shift time.Duration // the truth of its world is later than ours by this
}

// Start boots a machine from image; its files are in dir.
func Start(image *Image, dir string, o Options) (*Guest, error) {
	g := &Guest{Dir: dir, shift: o.Shift, began: time.Now()}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if g.Net, err = newNetwork(g.path("net.host"), g.path("net.guest"), g.Truth); err != nil {
		return nil, err
	}
	if g.memory, err = shared(g.path("page")); err != nil {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: g.path("agent"), Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	g.qemu = exec.Command("qemu-system-x86_64", g.arguments(image, g.Truth().Add(o.RTC))...)
	log, err := os.Create(g.path("qemu.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	g.qemu.Stdout, g.qemu.Stderr = log, log
	g.qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.qemu.Start(); err != nil {
		return nil, err
	}
	_ = listener.SetDeadline(time.Now().Add(20 * time.Second))
	if g.agent, err = listener.Accept(); err != nil {
		g.Close()
		text, _ := os.ReadFile(g.path("qemu.log"))
		return nil, fmt.Errorf("no machine: %w: %s", err, text)
	}
	g.lines = bufio.NewReader(g.agent)
	g.Clock = newSampler(page.Of(g.memory), g.Truth)
	return g, nil
}

func (g *Guest) path(name string) string { return filepath.Join(g.Dir, name) }

// Truth is the time in the machine's world: this machine's, which is not asked again
// after the start, so that nobody's steering of it counts as an error of the guest.
func (g *Guest) Truth() time.Time {
	g.moved.RLock()
	defer g.moved.RUnlock()
	return g.began.Add(time.Since(g.began) + g.shift).Round(0).UTC()
}

// Move makes the truth of the machine's world another.
func (g *Guest) Move(to time.Time) {
	by := to.Sub(g.Truth())
	g.Add(by)
}

// Add makes the truth later, as a leap second makes it earlier by one.
func (g *Guest) Add(by time.Duration) {
	g.moved.Lock()
	defer g.moved.Unlock()
	g.shift += by
}

func (g *Guest) arguments(image *Image, rtc time.Time) []string {
	accel := "tcg" // where it can be opened, KVM need not work: nested machines
	if other := os.Getenv("TIMEBALL_VM_ACCEL"); other != "" {
		accel = other
	}
	return append([]string{"-accel", accel},
		"-machine", "q35", "-cpu", "max,arch-capabilities=off", "-smp", "1", "-m", "768", "-display", "none", "-no-reboot", "-nodefaults", "-no-user-config",
		"-rtc", "base="+rtc.UTC().Format("2006-01-02T15:04:05"),
		"-kernel", image.Kernel, "-initrd", image.Memory,
		"-append", "console=ttyS0 quiet panic=-1 net.ifnames=0 systemd.show_status=0 tsc=reliable",
		"-serial", "file:"+g.path("console.log"),
		"-drive", "file="+image.Disk+",format=raw,if=none,id=disk,snapshot=on", "-device", "virtio-blk-pci,drive=disk",
		"-netdev", "dgram,id=net,local.type=unix,local.path="+g.path("net.guest")+",remote.type=unix,remote.path="+g.path("net.host"),
		"-device", "virtio-net-pci,netdev=net,mac=02:00:00:00:00:02",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,path="+g.path("agent"), "-device", "virtserialport,chardev=agent,name=timeball.agent",
		"-object", fmt.Sprintf("memory-backend-file,id=page,share=on,mem-path=%s,size=%d", g.path("page"), page.Size), "-device", "ivshmem-plain,memdev=page",
		"-qmp", "unix:"+g.path("qmp")+",server=on,wait=off")
}

func shared(path string) ([]byte, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := file.Truncate(page.Size); err != nil {
		return nil, err
	}
	return unix.Mmap(int(file.Fd()), 0, page.Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// Run has the machine run a script as root. An error says that it could not be run, or
// what it ended with.
func (g *Guest) Run(script string) (string, error) { return g.RunFor(script, 2*time.Minute) }

// RunFor is Run with a longest time.
func (g *Guest) RunFor(script string, longest time.Duration) (string, error) {
	return g.ask(longest, map[string]any{"Script": script, "Timeout": longest})
}

// ask has the agent do something.
func (g *Guest) ask(longest time.Duration, what map[string]any) (string, error) {
	g.say.Lock()
	defer g.say.Unlock()
	text, err := json.Marshal(what)
	if err != nil {
		return "", err
	}
	_ = g.agent.SetDeadline(time.Now().Add(longest + 30*time.Second))
	if _, err := g.agent.Write(append(text, '\n')); err != nil {
		return "", err
	}
	line, err := g.lines.ReadBytes('\n')
	if err != nil {
		return "", fmt.Errorf("the machine does not answer: %w", err)
	}
	var reply struct {
		Out  string
		Code int
	}
	if err := json.Unmarshal(line, &reply); err != nil {
		return "", err
	}
	if reply.Code != 0 {
		return reply.Out, fmt.Errorf("ended with %d", reply.Code)
	}
	return reply.Out, nil
}

// Pause stops the machine's processors, Resume lets them go on: no clock of its own
// shows it.
func (g *Guest) Pause() error  { return g.monitor("stop") }
func (g *Guest) Resume() error { return g.monitor("cont") }

// monitor has QEMU do something (QMP).
func (g *Guest) monitor(what string) error {
	if g.qmp == nil {
		conn, err := net.Dial("unix", g.path("qmp"))
		if err != nil {
			return err
		}
		g.qmp = conn
		go func() { // what it says is not needed
			buffer := make([]byte, 4096)
			for {
				if _, err := conn.Read(buffer); err != nil {
					return
				}
			}
		}()
		if _, err := fmt.Fprintln(conn, `{"execute":"qmp_capabilities"}`); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(g.qmp, "{\"execute\":%q}\n", what)
	return err
}

// Log is what is known of the machine's life, for a failed test.
func (g *Guest) Log() string {
	journal, err := g.RunFor("journalctl --no-pager -o short-monotonic -u 'timeball*' -n 150; timeball status; systemctl --no-pager --failed", 20*time.Second)
	return fmt.Sprintf("%s\n%v\n%s\n--- last reading\n%v", journal, err, g.output(), g.Clock.Last())
}

// output is the end of what QEMU and the kernel have said.
func (g *Guest) output() string {
	qemu, _ := os.ReadFile(g.path("qemu.log"))
	console, _ := os.ReadFile(g.path("console.log"))
	return fmt.Sprintf("--- QEMU\n%s\n--- console\n%s", qemu, console[max(0, len(console)-3000):])
}

// Close ends the machine at once.
func (g *Guest) Close() {
	if g.Clock != nil {
		g.Clock.close()
	}
	_ = g.qemu.Process.Kill()
	_ = g.qemu.Wait()
	_ = g.Net.conn.Close()
	if g.agent != nil {
		_ = g.agent.Close()
	}
	if g.qmp != nil {
		_ = g.qmp.Close()
	}
}

package vm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const suite = "bookworm"

// guestPackages are what is in the image beside Debian's smallest set.
var guestPackages = []string{"systemd", "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "procps", "libcap2-bin", "util-linux", "tzdata"}

// Programs that are laid beside, never set up by their packages: nothing of theirs starts.
var laidBeside = []string{"chrony", "ntpsec"}

// modules are what the disk, the network and the agent's port need.
var modules = []string{"virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "ext4"}

// Image is a disk of a Debian with timeball, and what boots it.
type Image struct {
	Dir, Disk, Kernel, Memory string
}

// command runs a program and has what it said in the error.
func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out[max(0, len(out)-2000):])
	}
	return nil
}

// base gives the folder of the Debian without timeball; the first time it is made.
func base() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "timeball-vm", suite+"-2")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	fmt.Println("vm: making a Debian, this once:", dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	building, err := os.MkdirTemp(filepath.Dir(dir), "building-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(building)
	root := filepath.Join(building, "root")
	if err := command("debootstrap", "--variant=minbase", "--include="+strings.Join(guestPackages, ","), suite, root); err != nil {
		return "", err
	}
	if err := addKernel(building, root); err != nil {
		return "", err
	}
	return dir, os.Rename(building, dir)
}

// addKernel takes Debian's kernel apart rather than installing it, which would want an
// initial memory disk and a boot loader; and lays other daemons beside.
func addKernel(building, root string) error {
	script := `cd "$1"; mkdir debs
kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image/ {print $2; exit}')
cd debs; apt-get download "$kernel" ` + strings.Join(laidBeside, " ") + `; cd ..
mkdir kernel beside
for deb in debs/*.deb; do case $deb in debs/linux*) dpkg-deb -x $deb kernel;; *) dpkg-deb -x $deb beside;; esac; done
mkdir -p "$2/usr/lib/modules" "$2/opt/beside"
mv kernel/lib/modules/* "$2/usr/lib/modules/"; cp kernel/boot/vmlinuz-* vmlinuz; cp -a beside/. "$2/opt/beside/"
chroot "$2" /sbin/depmod "$(ls "$2/usr/lib/modules")"
rm -rf debs kernel beside; rm -rf "$2/var/cache/apt/archives/"*.deb "$2/var/lib/apt/lists/"*`
	return command("sh", "-ec", script, "sh", building, root)
}

// MakeImage installs tree's timeball (bin/timeball is built) by `make install` into a copy
// of the Debian, with configuration as its file, and makes a disk of it in dir. The
// guest's program is here's, this tree's.
func MakeImage(dir, here, tree, configuration string) (*Image, error) {
	from, err := base()
	if err != nil {
		return nil, err
	}
	image := &Image{dir, filepath.Join(dir, "disk.img"), filepath.Join(from, "vmlinuz"), filepath.Join(dir, "initrd")}
	root := filepath.Join(dir, "root")
	if err := command("cp", "-a", "--reflink=auto", filepath.Join(from, "root"), root); err != nil {
		return nil, err
	}
	guest := filepath.Join(dir, "guest")
	build := exec.Command("go", "build", "-trimpath", "-o", guest, "./test/vm/guest")
	build.Dir, build.Env = here, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("the guest's program: %w: %s", err, out)
	}
	if err := install(root, tree, guest, configuration); err != nil {
		return nil, err
	}
	if err := image.memoryDisk(root, guest); err != nil {
		return nil, err
	}
	if err := command("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-d", root, image.Disk, "1G"); err != nil {
		return nil, err
	}
	return image, os.RemoveAll(root)
}

func install(root, tree, guest, configuration string) error {
	if err := command("make", "-s", "-C", tree, "install", "DESTDIR="+root); err != nil {
		return err
	}
	files := map[string]string{
		"etc/timeball/timeball.yaml":                  configuration,
		"etc/hostname":                                "guest\n",
		"etc/fstab":                                   "",
		"etc/systemd/system/vm-agent.service":         agentUnit,
		"etc/systemd/system/vm-net.service":           netUnit,
		"etc/systemd/system/vm-after-time.service":    afterTimeUnit,
		"etc/systemd/journald.conf.d/vm.conf":         "[Journal]\nStorage=volatile\nRateLimitBurst=0\n",
		"etc/systemd/system/timeball.service.d/.keep": "",
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := command("install", "-m", "0755", guest, filepath.Join(root, "usr/local/sbin/vm-guest")); err != nil {
		return err
	}
	return command("chroot", root, "/bin/sh", "-ec", `systemd-sysusers
chown timeball:timeball /var/lib/timeball
systemctl enable vm-agent vm-net vm-after-time timeball timeball-wait
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer getty@tty1.service serial-getty@ttyS0.service systemd-pstore.service
systemctl set-default multi-user.target`)
}

const agentUnit = `[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
ExecStart=/usr/local/sbin/vm-guest agent
Restart=always
[Install]
WantedBy=sysinit.target
`

const netUnit = `[Unit]
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'ip link set lo up; ip addr add 10.7.0.2/24 dev eth0; ip link set eth0 up'
[Install]
WantedBy=multi-user.target
`

// What wants the right time, and says when it started.
const afterTimeUnit = `[Unit]
After=time-sync.target
Wants=time-sync.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
`

// memoryDisk makes the initial memory disk: the guest's program and the modules.
func (image *Image) memoryDisk(root, guest string) error {
	found, err := filepath.Glob(filepath.Join(root, "usr/lib/modules/*"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("one kernel's modules are wanted, there are %v", found)
	}
	table, err := os.ReadFile(filepath.Join(found[0], "modules.dep"))
	if err != nil {
		return err
	}
	program, err := os.ReadFile(guest)
	if err != nil {
		return err
	}
	var disk archive
	for _, dir := range []string{"modules", "root"} {
		disk.add(dir, 0o40755, nil)
	}
	disk.add("init", 0o100755, program)
	var order []string
	for _, module := range modules {
		for _, path := range needs(string(table), module) {
			name := filepath.Base(path)
			if slices.Contains(order, name) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(found[0], path))
			if err != nil {
				return err
			}
			order = append(order, name)
			disk.add("modules/"+name, 0o100644, text)
		}
	}
	disk.add("modules/order", 0o100644, []byte(strings.Join(order, "\n")))
	disk.add("TRAILER!!!", 0, nil)
	return os.WriteFile(image.Memory, disk.Bytes(), 0o644)
}

// archive is a cpio archive as the kernel reads it ("newc";
// Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct{ bytes.Buffer }

func (a *archive) add(name string, mode int, text []byte) {
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.Len()+1, mode, 0, 0, 1, 0, len(text), 0, 0, 0, 0, len(name)+1, 0, name)
	a.pad()
	a.Write(text)
	a.pad()
}

func (a *archive) pad() {
	for a.Len()%4 != 0 {
		a.WriteByte(0)
	}
}

// needs gives a module's files, in the order in which they are to be loaded; none where
// it is a part of the kernel.
func needs(table, module string) []string {
	for line := range bytes.Lines([]byte(table)) {
		file, rest, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		if filepath.Base(file) == module+".ko" {
			files := strings.Fields(rest)
			slices.Reverse(files) // the table has what is needed last at the end
			return append(files, file)
		}
	}
	return nil
}

package refclock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// The kernel's interface to pulses (linux/pps.h, RFC 2783): requests of ioctl(2), whose
// declared size is that of a pointer, and the structures behind it.
const (
	ppsGetParams = 0x800070a1 | ptrSize<<16
	ppsSetParams = 0x400070a2 | ptrSize<<16
	ppsGetCap    = 0x800070a3 | ptrSize<<16
	ppsFetch     = 0xc00070a4 | ptrSize<<16
	ptrSize      = unsafe.Sizeof(uintptr(0))

	ppsCaptureAssert = 0x01
	ppsCaptureClear  = 0x02
	ppsCanWait       = 0x100
	ppsTimespec      = 0x1000
	ppsTimeInvalid   = 0x1
)

type ppsTime struct {
	Sec   int64
	Nsec  int32
	Flags uint32
}

type ppsInfo struct {
	AssertSequence, ClearSequence uint32
	Assert, Clear                 ppsTime
	Mode                          int32
	_                             int32
}

type ppsFetchData struct {
	Info    ppsInfo
	Timeout ppsTime
}

type ppsParams struct {
	Version, Mode             int32
	AssertOffset, ClearOffset ppsTime
}

// ppsCalls are the requests, so that tests can answer them.
type ppsCalls interface {
	Capabilities(fd int) (int32, error)
	Params(fd int) (ppsParams, error)
	SetParams(fd int, p *ppsParams) error
	Fetch(fd int, d *ppsFetchData) error
}

type pps struct {
	device
	config Config
	calls  ppsCalls
	last   uint32 // sequence of the last pulse
	begun  bool
	canPut bool // the kernel waits for a pulse by itself
}

// ppsWait is how long one request waits for a pulse: how long a stop may take.
const ppsWait = time.Second

func openPPS(c Config) (Driver, error) {
	if c.Device == "" {
		c.Device = fmt.Sprintf("/dev/pps%d", c.Unit)
	}
	f, err := os.OpenFile(c.Device, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("pulses: %w", err)
	}
	return newPPS(c, f, ppsKernel{})
}

func newPPS(c Config, f *os.File, calls ppsCalls) (Driver, error) {
	p := &pps{config: c, calls: calls, device: device{file: f, done: make(chan struct{})}}
	if err := p.prepare(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return p, nil
}

// prepare asks what the device can do, and makes it capture the edge that is wanted.
func (p *pps) prepare() error {
	fd := int(p.file.Fd())
	can, err := p.calls.Capabilities(fd)
	if err != nil {
		return fmt.Errorf("pulses: %s is no PPS device: %w", p.config.Device, err)
	}
	want, name := int32(ppsCaptureAssert), "assert"
	if p.config.Clear {
		want, name = ppsCaptureClear, "clear"
	}
	if can&want == 0 {
		return fmt.Errorf("pulses: %s does not capture the %s edge; edge: chooses the other one", p.config.Device, name)
	}
	params, err := p.calls.Params(fd)
	if err != nil {
		return fmt.Errorf("pulses: parameters of %s: %w", p.config.Device, err)
	}
	if params.Mode&want == 0 || params.Mode&ppsTimespec == 0 {
		params.Mode |= want | ppsTimespec
		if err := p.calls.SetParams(fd, &params); err != nil {
			return fmt.Errorf("pulses: make %s capture the %s edge: %w", p.config.Device, name, err)
		}
	}
	p.canPut = can&ppsCanWait != 0
	return nil
}

// Read waits for the next pulse. No pulse for long is no error: an antenna may have
// fallen off, and comes back.
func (p *pps) Read(ctx context.Context) (Reading, error) {
	for {
		select {
		case <-ctx.Done():
			return Reading{}, ctx.Err()
		case <-p.done:
			return Reading{}, errClosed
		default:
		}
		at, sequence, err := p.fetch()
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ETIMEDOUT):
			continue
		case err != nil:
			return Reading{}, fmt.Errorf("pulses of %s: %w", p.config.Device, err)
		case p.begun && sequence == p.last || sequence == 0:
			if !p.canPut {
				if err := pause(ctx, p.done, p.config.Every/4); err != nil {
					return Reading{}, err
				}
			}
			continue
		}
		first := !p.begun
		p.last, p.begun = sequence, true
		if first {
			continue // of unknown age
		}
		wall, ok := wallOf(at.Sec, int64(at.Nsec))
		if !ok || at.Nsec < 0 || at.Nsec >= 1e9 {
			p.config.Counters.refuse(model.ReadingMalformed)
			continue
		}
		p.config.Counters.taken.Add(1)
		return pulseAt(wall, p.config.Every), nil
	}
}

// fetch asks for the last pulse, waiting for the next one where the kernel can.
func (p *pps) fetch() (ppsTime, uint32, error) {
	p.mu.Lock()
	f := p.file
	p.mu.Unlock()
	if f == nil {
		return ppsTime{}, 0, errClosed
	}
	d := ppsFetchData{Timeout: ppsTime{Sec: int64(ppsWait / time.Second)}}
	if !p.canPut {
		d.Timeout = ppsTime{}
	}
	if err := p.calls.Fetch(int(f.Fd()), &d); err != nil {
		return ppsTime{}, 0, err
	}
	if p.config.Clear {
		return d.Info.Clear, d.Info.ClearSequence, nil
	}
	return d.Info.Assert, d.Info.AssertSequence, nil
}

// pulseAt is a pulse that came at a moment of CLOCK_REALTIME: the reference stood at a
// whole number of periods then; which one is for others to say, the nearest stands here.
func pulseAt(realtime ntptime.Wall, period time.Duration) Reading {
	r := Reading{Realtime: realtime, Reference: nearest(realtime, period)}
	r.Pulse = true
	return r
}

// nearest is the whole number of periods nearest to a time.
func nearest(w ntptime.Wall, period time.Duration) ntptime.Wall {
	p := int64(period)
	into := int64(w) % p
	if into < 0 {
		into += p
	}
	if into*2 >= p {
		return w + ntptime.Wall(p-into)
	}
	return w - ntptime.Wall(into)
}

// ppsKernel asks the kernel.
type ppsKernel struct{}

func (ppsKernel) Capabilities(fd int) (can int32, err error) {
	err = ioctl(fd, ppsGetCap, unsafe.Pointer(&can))
	return can, err
}

func (ppsKernel) Params(fd int) (p ppsParams, err error) {
	err = ioctl(fd, ppsGetParams, unsafe.Pointer(&p))
	return p, err
}

func (ppsKernel) SetParams(fd int, p *ppsParams) error {
	return ioctl(fd, ppsSetParams, unsafe.Pointer(p))
}

func (ppsKernel) Fetch(fd int, d *ppsFetchData) error { return ioctl(fd, ppsFetch, unsafe.Pointer(d)) }

func ioctl(fd int, request uintptr, data unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(data)); e != 0 {
		return e
	}
	return nil
}

package refclock

import (
	"os"
	"sync"
)

// device is an open character device that is closed while another goroutine may read it.
type device struct {
	file *os.File
	done chan struct{} // closed by Close: ends a pause
	once sync.Once
	mu   sync.Mutex // file against Close
}

// Close closes the device. A Read that waits ends: at once in a pause, within ppsWait in
// a request for a pulse.
func (d *device) Close() error {
	d.once.Do(func() { close(d.done) })
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil {
		return nil
	}
	f := d.file
	d.file = nil
	return f.Close()
}

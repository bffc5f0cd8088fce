package refclock

import (
	"sync/atomic"
	"unsafe"
)

// Words of memory that another process writes meanwhile: read and written by atomic
// operations, so that the order in which they stand here is the order in which they are
// done.

func loadWord(mem []byte, at int) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&mem[at])))
}

func storeWord(mem []byte, at int, v uint32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&mem[at])), v)
}

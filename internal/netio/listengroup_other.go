//go:build !linux

package netio

import "errors"

// ListenGroup needs a system where several sockets can be bound to one group.
func ListenGroup(ListenConfig, string) (*Port, error) {
	return nil, errors.New("listening to a group by a socket of its own: only on Linux")
}

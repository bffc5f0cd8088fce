package netio

import (
	"errors"
	"fmt"
	"syscall"
)

// networkWords say what the system's error numbers mean to who sends NTP requests.
var networkWords = map[syscall.Errno]string{
	syscall.ECONNREFUSED:  "connection refused: nothing listens at that UDP port there, or a firewall rejects it",
	syscall.ENETUNREACH:   "network unreachable: this machine has no route to that address",
	syscall.EHOSTUNREACH:  "host unreachable: no route to it, or nobody on its link has that address",
	syscall.EHOSTDOWN:     "host unreachable: nobody on its link has that address",
	syscall.EADDRNOTAVAIL: "no address to send from: this machine does not have the source address, or none of that family",
	syscall.EAFNOSUPPORT:  "this machine does not have that address family",
	syscall.EACCES:        "sending is forbidden here: a firewall of this machine, or a route of type prohibit",
	syscall.EPERM:         "sending is forbidden here: a firewall of this machine",
	syscall.ENODEV:        "there is no such network interface",
	syscall.ENETDOWN:      "the network interface is down",
	syscall.EINVAL:        "that address cannot be sent to: a route of type blackhole, or none from a source address or interface that was given",
}

// Words put an error of a socket in words that say what it means: refused, unreachable, no
// route, forbidden. An error without such a number is given as it is.
func Words(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err.Error()
	}
	if words, known := networkWords[errno]; known {
		return words
	}
	return fmt.Sprintf("the system says: %v", errno)
}

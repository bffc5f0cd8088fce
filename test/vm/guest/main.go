// Command guest is what runs inside the machine of test/vm beside timeball: the first
// process, which finds the disk; an agent, which runs the host's scripts; and the page
// of memory into which the machine's clocks are written for the host. It sets the clock
// only where the host says so.
package main

import (
	"fmt"
	"os"
)

func main() {
	var err error
	switch {
	case os.Getpid() == 1:
		err = boot()
	case len(os.Args) > 1 && os.Args[1] == "agent":
		go func() {
			err := publish()
			fmt.Fprintln(os.Stderr, "page:", err)
		}()
		err = serve()
	default:
		err = fmt.Errorf("usage: guest agent")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

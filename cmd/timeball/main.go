// Command timeball is an NTP daemon, its reports, its simulator and its lab.
package main

import (
	"os"

	"timeball/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}

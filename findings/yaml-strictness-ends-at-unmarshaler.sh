#!/bin/bash
# gopkg.in/yaml.v3 v3.0.1: KnownFields(true).
#
# The strictness of a decoder does not pass through a type with its own UnmarshalYAML: the
# node that the method is given decodes by a fresh, lenient decoder, so that an unknown key
# below such a type is dropped without a word, while one beside it is an error. One method
# anywhere up the tree, say for a value that may be a word or a section, and the typing errors of
# everything below it go unseen.
#
# Needs go.
source "$(dirname "$(readlink -f "$0")")/common.sh"
export GOFLAGS=-mod=mod GO111MODULE=on
cat > main.go <<'GO'
package main

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

type inner struct{ Port int }

type lenient struct{ inner }

func (l *lenient) UnmarshalYAML(n *yaml.Node) error { return n.Decode(&l.inner) }

type file struct {
	Strict inner
	Custom lenient
}

func known(text string) string {
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	var f file
	if err := d.Decode(&f); err != nil {
		return "refused"
	}
	return "taken"
}

func main() {
	fmt.Printf("plain %s, below UnmarshalYAML %s", known("strict: {prot: 1}"), known("custom: {prot: 1}"))
}
GO
go mod init finding >/dev/null 2>&1
go get gopkg.in/yaml.v3@v3.0.1 >/dev/null 2>&1
expect "an unknown key" "plain refused, below UnmarshalYAML taken" "$(go run .)"

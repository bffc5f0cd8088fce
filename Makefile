# timeball: build, try, test, install. `make help` says what there is.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS     := -s -w -X timeball/internal/cli.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Tests against other programs and whole scenarios have targets of their own.
LONG        := timeball/test/(peers|monitor|interop|modes|scenarios|bench|soak|vm)
PACKAGES     = $$($(GO) list ./... | grep -Ev '^$(LONG)(/|$$)')

RACE        := $(if $(shell command -v $(or $(CC),cc) gcc 2>/dev/null),-race)

# What is left of a verbose test's output: results and reasons.
BRIEF       := grep -Ev '^=== (RUN|PAUSE|CONT|NAME)'

FUZZTIME    ?= 60s
FUZZTOTAL   ?= 75s
BENCHTIME   ?= 1s
LABTIME     ?= 30s

BIN         ?= bin
DESTDIR     ?=
PREFIX      ?= /usr/local
BINDIR      ?= $(PREFIX)/bin
SYSCONFDIR  ?= /etc
STATEDIR    ?= /var/lib/timeball
UNITDIR     ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
NTPUNITSDIR ?= $(PREFIX)/lib/systemd/ntp-units.d
DATADIR     ?= $(PREFIX)/share/timeball
CONFIG      := $(DESTDIR)$(SYSCONFDIR)/timeball/timeball.yaml

.PHONY: help
help: ## say what there is
	@awk -F':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  VERSION=$(VERSION) PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)"

.PHONY: build
build: ## the static binary, bin/timeball
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/timeball ./cmd/timeball

.PHONY: run
run: build ## a small network of daemons on loopback, for 30 s: no root, no network
	$(BIN)/timeball lab configs/quickstart.yaml --duration $(LABTIME)

.PHONY: test
test: ## all the quick tests; no root needed
	$(GO) test -short -timeout 20m ./...

.PHONY: check
check: format vet lint race fuzzshort scenarios e2e ## everything that must hold before a change is taken
	@echo "check: all passed"

.PHONY: format
format: ## say which files are not as gofmt has them
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "not as gofmt has them:"; echo "$$files"; exit 1; fi

.PHONY: vet
vet: ## go vet
	$(GO) vet ./...

.PHONY: lint
lint: ## staticcheck, pinned, and the layers and purity of the packages
	$(GO) run $(STATICCHECK) ./...
	$(GO) test ./internal/archtest

.PHONY: race
race: ## the tests under the race detector (which needs a C compiler)
	@if [ -z "$(RACE)" ]; then echo "no C compiler here: the tests run without the race detector"; fi
	$(GO) test $(RACE) -timeout 20m $(PACKAGES)

.PHONY: fuzzshort
fuzzshort: ## every fuzz test for a moment
	$(GO) run ./test/tools/fuzz -total $(FUZZTOTAL) ./...

.PHONY: fuzz
fuzz: ## every fuzz test for FUZZTIME (60s)
	$(GO) run ./test/tools/fuzz -each $(FUZZTIME) ./...

.PHONY: scenarios
scenarios: ## the scenarios in virtual time with their limits
	@if [ -d test/scenarios ]; then $(GO) test -timeout 20m ./test/scenarios/...; else echo "scenarios: none here"; fi

.PHONY: accuracy
accuracy: ## the whole table of accuracy, ten seeds a row, beside other daemons' figures
	$(GO) test -count=1 -tags accuracy -run TestAccuracyTable -v -timeout 30m ./test/scenarios

# Real daemons in real time: one package after the other, few tests at a time.
REAL         = $(GO) test -count=1 -p 1 -timeout 20m -v -parallel 8

.PHONY: e2e
e2e: ## every mode, and chrony, ntpsec, openntpd, timesyncd, in network namespaces (root; skips with a reason)
	$(REAL) ./test/peers ./test/monitor ./test/interop ./test/soak ./test/modes | $(BRIEF)

VM           = $(GO) test -count=1 -v -timeout
.PHONY: vm
vm: build ## a machine in QEMU with a clock of its own and systemd (root; debootstrap, qemu-system-x86)
	TIMEBALL_VM=1 $(VM) 30m ./test/vm | $(BRIEF)

.PHONY: vm-long
vm-long: build ## as vm, with a pause of 20 minutes
	TIMEBALL_VM=long $(VM) 150m ./test/vm | $(BRIEF)

.PHONY: vm-accuracy
vm-accuracy: build ## timeball and chronyd, each in a machine, on the same path: the true error (an hour of a quiet machine)
	TIMEBALL_VM=accuracy $(VM) 120m -run TestAccuracy ./test/vm | $(BRIEF)

.PHONY: bench
bench: ## the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -timeout 60m ./... | grep -v 'no test files'

# Installing takes the binary that was built before, so that root needs no Go.
$(BIN)/timeball:
	$(MAKE) build

.PHONY: install
install: $(BIN)/timeball ## binary, units, example configuration (DESTDIR, PREFIX); never over an existing configuration
	install -D -m 0755 $(BIN)/timeball $(DESTDIR)$(BINDIR)/timeball
	install -D -m 0644 configs/timeball.yaml $(DESTDIR)$(DATADIR)/timeball.yaml
	install -D -m 0644 configs/refclock.conf $(DESTDIR)$(DATADIR)/refclock.conf
	install -D -m 0644 configs/fast-path.conf $(DESTDIR)$(DATADIR)/fast-path.conf
	install -D -m 0644 configs/prometheus/rules.yaml $(DESTDIR)$(DATADIR)/rules.yaml
	install -D -m 0644 configs/grafana/timeball.json $(DESTDIR)$(DATADIR)/grafana.json
	install -D -m 0644 configs/timeball.sysusers $(DESTDIR)$(SYSUSERSDIR)/timeball.conf
	install -D -m 0644 configs/ntp-units.list $(DESTDIR)$(NTPUNITSDIR)/50-timeball.list
	install -d -m 0755 $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSCONFDIR)/timeball
	for unit in timeball.service timeball-wait.service; do \
	  sed 's|/usr/local/bin/timeball|$(BINDIR)/timeball|; s|/etc/timeball/|$(SYSCONFDIR)/timeball/|' configs/$$unit > $(DESTDIR)$(UNITDIR)/$$unit; \
	  chmod 0644 $(DESTDIR)$(UNITDIR)/$$unit; \
	done
	install -d -m 0755 $(DESTDIR)$(SYSCONFDIR)/timeball/conf.d
	install -D -m 0755 configs/dhcp/timeball-dhcp $(DESTDIR)$(BINDIR)/timeball-dhcp
	install -D -m 0644 configs/dhcp/dhclient-exit-hook $(DESTDIR)$(DATADIR)/dhcp/dhclient-exit-hook
	install -D -m 0755 configs/dhcp/nm-dispatcher $(DESTDIR)$(DATADIR)/dhcp/nm-dispatcher
	for unit in timeball-networkd.path timeball-networkd.service; do \
	  sed 's|/usr/local/bin/|$(BINDIR)/|' configs/dhcp/$$unit > $(DESTDIR)$(UNITDIR)/$$unit; chmod 0644 $(DESTDIR)$(UNITDIR)/$$unit; \
	done
	install -d -m 0700 $(DESTDIR)$(STATEDIR)
	if [ -e $(CONFIG) ]; then echo "$(CONFIG) is kept"; else install -m 0644 configs/timeball.yaml $(CONFIG); fi
	if [ -z "$(DESTDIR)" ] && command -v systemd-sysusers >/dev/null; then systemd-sysusers $(SYSUSERSDIR)/timeball.conf; fi
	if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

# A version that dpkg and rpm can compare: that of a tag, or the commit's date and name.
PKGVERSION  ?= $(shell git describe --tags --exact-match 2>/dev/null | sed 's/^v//' | grep . || git log -1 --format=0.0.0+git%cd.%h --date=format:%Y%m%d%H%M 2>/dev/null || echo 0.0.0)
PKGARCH     ?= $(shell $(GO) env GOARCH)
MAINTAINER  ?= timeball maintainers <maintainers@timeball.example>
NFPM        := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.1

.PHONY: package
package: build ## deb and rpm in dist/, with manual pages and completions
	rm -rf dist/gen
	mkdir -p dist/gen/units
	$(GO) run ./packaging/gen dist/gen $(PKGVERSION) "$(MAINTAINER)" "$$(git log -1 --format=%cD 2>/dev/null || date -R)"
	for unit in configs/timeball.service configs/timeball-wait.service configs/dhcp/timeball-networkd.service configs/dhcp/timeball-networkd.path; do \
	  sed 's|/usr/local/bin/|/usr/bin/|' $$unit > dist/gen/units/$${unit##*/}; \
	done
	for kind in deb rpm; do \
	  MAINTAINER="$(MAINTAINER)" PKGVERSION=$(PKGVERSION) PKGARCH=$(PKGARCH) $(GO) run $(NFPM) package --config packaging/nfpm.yaml --packager $$kind --target dist/; \
	done

.PHONY: packagetest
packagetest: package ## install, upgrade, remove and purge the packages in a Debian of their own (root, debootstrap)
	TIMEBALL_PACKAGES=$(CURDIR)/dist $(GO) test -count=1 -v -timeout 30m ./test/packaging

.PHONY: uninstall
uninstall: ## what install put there, except configuration and state
	rm -f $(DESTDIR)$(BINDIR)/timeball $(DESTDIR)$(SYSUSERSDIR)/timeball.conf $(DESTDIR)$(NTPUNITSDIR)/50-timeball.list
	rm -f $(DESTDIR)$(DATADIR)/timeball.yaml $(DESTDIR)$(DATADIR)/refclock.conf $(DESTDIR)$(DATADIR)/fast-path.conf
	rm -f $(DESTDIR)$(DATADIR)/rules.yaml $(DESTDIR)$(DATADIR)/grafana.json
	rm -f $(DESTDIR)$(BINDIR)/timeball-dhcp $(DESTDIR)$(UNITDIR)/timeball-networkd.path $(DESTDIR)$(UNITDIR)/timeball-networkd.service
	rm -rf $(DESTDIR)$(DATADIR)/dhcp
	rm -f $(DESTDIR)$(UNITDIR)/timeball.service $(DESTDIR)$(UNITDIR)/timeball-wait.service

.PHONY: clean
clean: ## what build left
	rm -rf $(BIN)/timeball dist coverage.out

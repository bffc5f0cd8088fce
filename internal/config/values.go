package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Frequency is a relative frequency error in seconds per second: 12ppm is 12e-6.
type Frequency float64

var (
	errNoDuration  = errors.New("is not a duration; write a number and ns, us, ms, s, m or h, like 64s")
	errNoFrequency = errors.New("is not a frequency; write a number and ppm or ppb, like 12ppm, or a ratio like 1e-9")
)

// ParseDuration reads a duration as the configuration has it: `64s`, `1.5s`,
// `128ms`, `15us`, `1h30m`; a unit is required, also with 0. One number may have an
// exponent, as programs print small ones: `1e-05s`. What is not zero but below 1 ns is
// an error. The error says what to write instead and reads well behind the value.
func ParseDuration(text string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return 0, errors.New("has no unit; write " + text + "s if seconds are meant")
	}
	value, err := time.ParseDuration(text)
	if match := exponentDuration.FindStringSubmatch(text); match != nil {
		value, err = scaleDuration(match[1], match[2])
	}
	switch {
	case err != nil:
		return 0, errNoDuration
	case value == 0 && strings.ContainsAny(mantissa(text), "123456789"):
		return 0, errors.New("is less than 1ns, the smallest duration; write 0s if none is meant")
	}
	return value, nil
}

// exponentDuration is one number with an exponent, and its unit, which
// time.ParseDuration does not take.
var exponentDuration = regexp.MustCompile(`^([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]+)(ns|us|µs|μs|ms|s|m|h)$`)

// scaleDuration is a number of a unit, rounded to nanoseconds.
func scaleDuration(number, unit string) (time.Duration, error) {
	one, err := time.ParseDuration("1" + unit)
	if err != nil {
		return 0, err
	}
	count, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, err
	}
	nanoseconds := math.Round(count * float64(one))
	if math.Abs(nanoseconds) >= math.MaxInt64 {
		return 0, errNoDuration
	}
	return time.Duration(nanoseconds), nil
}

// mantissa is a number's text without its exponent.
func mantissa(text string) string {
	if cut := strings.IndexAny(text, "eE"); cut >= 0 {
		return text[:cut]
	}
	return text
}

// FormatDuration writes a duration as the configuration has it, in one unit: 64s,
// 24h, 62.5ms. ParseDuration reads it back.
func FormatDuration(value time.Duration) string {
	sign, size := "", uint64(value)
	if value < 0 {
		sign, size = "-", -size
	}
	unit, name, digits := uint64(time.Nanosecond), "ns", 0
	switch {
	case size >= uint64(time.Hour) && size%uint64(time.Hour) == 0:
		unit, name = uint64(time.Hour), "h"
	case size >= uint64(time.Second) || size == 0:
		unit, name, digits = uint64(time.Second), "s", 9
	case size >= uint64(time.Millisecond):
		unit, name, digits = uint64(time.Millisecond), "ms", 6
	case size >= uint64(time.Microsecond):
		unit, name, digits = uint64(time.Microsecond), "us", 3
	}
	text := sign + strconv.FormatUint(size/unit, 10)
	if rest := size % unit; rest != 0 {
		text += strings.TrimRight(fmt.Sprintf(".%0*d", digits, rest), "0")
	}
	return text + name
}

// ParseFrequency reads a frequency as the configuration has it: `12ppm`, `-5ppb`,
// or a ratio like `1e-9`. A whole number other than 0 is refused: it is nearly
// always ppm that is meant.
func ParseFrequency(text string) (Frequency, error) {
	number, perSecond := text, 1.0 // how many of the unit are 1 s/s
	if cut, found := strings.CutSuffix(text, "ppm"); found {
		number, perSecond = cut, 1e6
	} else if cut, found := strings.CutSuffix(text, "ppb"); found {
		number, perSecond = cut, 1e9
	}
	if strings.Trim(number, "0123456789+-.eE") != "" {
		return 0, errNoFrequency // also keeps inf, nan, hexadecimal and _ out
	}
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, errNoFrequency
	}
	if perSecond == 1 && math.Abs(value) >= 1 {
		return 0, errors.New("has no unit; write " + text + "ppm if parts per million are meant")
	}
	return Frequency(value / perSecond), nil
}

// String writes the frequency in ppm, or in ppb below 1 ppm.
func (f Frequency) String() string {
	if f != 0 && f > -1e-6 && f < 1e-6 {
		return strconv.FormatFloat(float64(f)*1e9, 'g', 10, 64) + "ppb"
	}
	return strconv.FormatFloat(float64(f)*1e6, 'g', 10, 64) + "ppm"
}

// hostPort joins a host and a port, with brackets round an IPv6 address.
func hostPort(host string, port uint16) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(port))
}

// joinWords joins the words that are not empty with one space.
func joinWords(words ...string) string {
	kept := words[:0]
	for _, word := range words {
		if word != "" {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, " ")
}

// target is where requests go.
type target struct {
	host string // a name, or an IP address without brackets
	port uint16
}

// parseHost splits HOST or HOST:PORT; an IPv6 address with a port needs brackets.
func parseHost(text string) (target, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return target{addr.String(), NTPPort}, checkUnicast(addr)
	}
	if strings.HasPrefix(text, "[") {
		return parseBracketed(text)
	}
	host, behind, found := strings.Cut(text, ":")
	if !found || strings.Contains(text, "/") {
		return target{text, NTPPort}, checkName(text)
	}
	port, err := parsePort(behind, 1)
	if err != nil {
		return target{}, err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return target{addr.String(), port}, checkUnicast(addr)
	}
	return target{host, port}, checkName(host)
}

// parseBracketed reads [IPV6] or [IPV6]:PORT.
func parseBracketed(text string) (target, error) {
	inside, behind, _ := strings.Cut(text[1:], "]")
	addr, err := netip.ParseAddr(inside)
	if err != nil || !addr.Is6() || behind != "" && behind[0] != ':' || !strings.Contains(text, "]") {
		return target{}, errors.New("is not an address; write it like \"[2001:db8::1]:123\"")
	}
	if behind == "" {
		return target{addr.String(), NTPPort}, checkUnicast(addr)
	}
	port, err := parsePort(behind[1:], 1)
	if err != nil {
		return target{}, err
	}
	return target{addr.String(), port}, checkUnicast(addr)
}

// checkUnicast refuses the addresses that cannot be asked for the time.
func checkUnicast(addr netip.Addr) error {
	switch {
	case addr.IsMulticast():
		return errors.New("is a multicast group; to listen to one write multicast_client: {group: " + addr.String() + "}")
	case addr.IsUnspecified(), reserved.Contains(addr.Unmap()):
		return errors.New("is not the address of one machine; write a unicast address or a name")
	}
	return nil
}

// reserved holds addresses that no machine has, the limited broadcast among them
// (RFC 1112 §4, RFC 6890 §2.2.2).
var reserved = netip.MustParsePrefix("240.0.0.0/4")

// checkScheme refuses URLs.
func checkScheme(name string) error {
	if strings.Contains(name, "/") {
		return errors.New("is not a host name; write the name alone, without scheme or path")
	}
	return nil
}

// checkName refuses what cannot be a host name (RFC 1123 §2.1, with _ as seen in
// practice).
func checkName(name string) error {
	if err := checkScheme(name); err != nil {
		return err
	}
	for _, r := range name {
		if r >= 0x80 {
			return errors.New("is not ASCII; write the name in its xn-- form")
		}
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._", r) {
			return errors.New("is not a host name; write a name like time.example.net or an IP address")
		}
	}
	if len(name) > 253 {
		return errors.New("is too long for a host name; names have up to 253 characters")
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' {
			return errors.New("is not a host name; write a name like time.example.net or an IP address")
		}
	}
	if strings.Trim(name, "0123456789.") == "" {
		return errors.New("is not an IPv4 address; four numbers from 0 to 255 are needed")
	}
	return nil
}

// parsePort reads a port from lowest to 65535.
func parsePort(text string, lowest uint16) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || uint16(port) < lowest {
		return 0, errors.New("has no valid port; write a number from " + strconv.Itoa(int(lowest)) + " to 65535 behind the colon")
	}
	return uint16(port), nil
}

// parseListen reads ADDRESS:PORT or :PORT; port 0 stands for any free one.
func parseListen(text string) (ListenAddress, error) {
	colon := strings.LastIndexByte(text, ':')
	if _, err := netip.ParseAddr(text); err == nil || colon < 0 {
		return ListenAddress{}, errors.New("has no port; write ADDRESS:PORT or :PORT, like \"[::1]:123\" or \":123\"")
	}
	port, err := parsePort(text[colon+1:], 0)
	if err != nil {
		return ListenAddress{}, err
	}
	if text[:colon] == "" || text[:colon] == "*" {
		return ListenAddress{Port: port}, nil
	}
	both, err := netip.ParseAddrPort(text)
	if err != nil {
		return ListenAddress{}, errors.New("is not an IP address and port; write ADDRESS:PORT or :PORT, like 192.0.2.1:123")
	}
	if both.Addr().IsMulticast() {
		return ListenAddress{}, errors.New("is a multicast group; groups stand under server.multicast or a multicast_client source")
	}
	return ListenAddress{Addr: both.Addr().Unmap(), Port: both.Port()}, nil
}

// parsePrefix reads NETWORK/BITS, or an address alone for just that address.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, errors.New("is not a network; write it like 192.0.2.0/24 or 2001:db8::/32")
	}
	if prefix.Addr().Is4In6() {
		return netip.Prefix{}, errors.New("is an IPv4-mapped network; write it as IPv4")
	}
	if masked := prefix.Masked(); masked != prefix {
		return netip.Prefix{}, errors.New("has bits set behind its prefix; write " + masked.String())
	}
	return prefix, nil
}

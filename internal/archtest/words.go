package archtest

import "regexp"

// dialect are words that once stood for ideas of the field here, each with the field's own
// (docs/development.md): a newcomer who knows NTP must not learn a dialect. They are matched
// as whole words, and as they are written; words with another good use (line, good, settle)
// are not here. CHANGELOG.md and this file may have them.
var dialect = []struct{ not, but string }{
	{"struck", "set, taken"},
	{"stamp", "timestamp"},
	{"Stamp", "Timestamp"},
	{"stamps", "timestamps"},
	{"Stamps", "Timestamps"},
	{"stamped", "timestamped"},
	{"StampKind", "TimestampKind"},
	{"StampDaemon", "TimestampDaemon"},
	{"StampKernel", "TimestampKernel"},
	{"StampHardware", "TimestampHardware"},
	{"stampKinds", "timestampKinds"},
	{"stampNames", "timestampNames"},
	{"hexStamp", "hexTimestamp"},
	{"stray", "unconfirmed"},
	{"onStranger", "unknown peer"},
	{"strange broadcast", "outlier broadcast"},
	{"offLine", "residual"},
	{"survey", "calibration"},
	{"surveyed", "calibrated"},
	{"stillListening", "startupWait"},
	{"forgive", "resetBiases"},
	{"strikes", "outliers"},
	{"calm", "inliers"},
	{"runaway", "diverging"},
	{"Runaway", "Diverging"},
	{"strays", "unconfirmed"},
	{"departure", "transmission"},
	{"departed", "transmitted"},
	{"joint", "combined"},
	{"Joint", "Combined"},
	{"inJoint", "inCombined"},
	{"MaxJoint", "MaxCombined"},
	{"Volley", "StartupInterval"},
	{"VolleyLength", "StartupExchanges"},
	{"foreignRate", "externalRate"},
	{"exchanges running", "in a row"},
	{"selections running", "in a row"},
	{"Whys", "Reasons"},
	{"Kissed", "RateKoD"},
	{"offTheLine", "residual"},
	{"toggle", "boolean"},
	{"presets", "defaults"},
	{"NotBuilt", "Unsupported"},
	{"notBuilt", "unsupported"},
	{"is no key of timeball", "unknown key"},
	{"quick series", "burst"},
	{"quick first exchanges", "startup burst"},
	{"network card", "NIC"},
	{"network cards", "NICs"},
	{"for want of room", "queue full"},
	{"says not when", "missing \"at\""},
	{"reachBits", "reach, in octal"},
	{"SYNC DISTANCE", "root distance"},
}

// dialectPatterns match the words of dialect.
var dialectPatterns = func() (patterns []*regexp.Regexp) {
	for i := range dialect {
		patterns = append(patterns, regexp.MustCompile(`\b`+regexp.QuoteMeta(dialect[i].not)+`\b`))
	}
	return patterns
}()

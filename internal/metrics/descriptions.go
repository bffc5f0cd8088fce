package metrics

import "github.com/prometheus/client_golang/prometheus"

// metric is one metric family. Its unit is that of its name.
type metric struct {
	name   string
	kind   kind
	help   string
	labels []string
	desc   *prometheus.Desc
}

// kind is the type as Prometheus names it.
type kind string

const (
	gauge     kind = "gauge"
	counter   kind = "counter"
	histogram kind = "histogram"
)

// all is every metric, in the order of docs/metrics.md; a test holds the two together.
var all []*metric

func define(k kind, name, help string, labels ...string) *metric {
	m := &metric{name: name, kind: k, help: help, labels: labels, desc: prometheus.NewDesc(name, help, labels, nil)}
	all = append(all, m)
	return m
}

// The process.
var (
	uptime       = define(gauge, "ntp_uptime_seconds", "Time since the daemon started.", "version", "build_commit", "build_commit_date")
	buildInfo    = define(gauge, "ntp_build_info", "What is running; always 1.", "version", "revision", "goversion")
	reloadTime   = define(gauge, "ntp_config_last_reload_success_timestamp_seconds", "When the configuration in force was read.")
	reloadStatus = define(gauge, "ntp_config_last_reload_successful", "1 if the last configuration read was taken, 0 if it was refused.")
)

// The system process.
var (
	systemPoll           = define(gauge, "ntp_system_poll_interval_seconds", "Shortest poll interval asked for by the discipline.")
	systemStepsSum       = define(gauge, "ntp_system_accumulated_steps_seconds", "Sum of the sizes of all steps of the clock.")
	systemStepsLimit     = define(gauge, "ntp_system_accumulated_steps_threshold_seconds", "Limit of the accumulated steps; -1, there is none.")
	systemLeap           = define(gauge, "ntp_system_leap_indicator", "0 no warning, 1 a second will be inserted, 2 deleted, 3 not synchronized.")
	systemRootDelay      = define(gauge, "ntp_system_root_delay_seconds", "Round trip to the primary reference.")
	systemRootDispersion = define(gauge, "ntp_system_root_dispersion_seconds", "Uncertainty against the primary reference, besides the delay; grows between updates.")
	systemStratum        = define(gauge, "ntp_system_stratum", "Stratum; 16, not synchronized.")
	systemSynchronized   = define(gauge, "ntp_system_synchronized", "1 if the clock is synchronized.")
	systemState          = define(gauge, "ntp_system_state", "1 for the state the discipline is in, 0 for the others.", "state")
	systemOffset         = define(gauge, "ntp_system_offset_seconds", "Reference minus clock, still to be worked off.")
	systemFrequency      = define(gauge, "ntp_system_frequency_ratio", "Lasting correction of the oscillator's frequency; positive, it is slow.")
	systemFrequencyError = define(gauge, "ntp_system_frequency_error_ratio", "Standard deviation of the frequency.")
	systemSlew           = define(gauge, "ntp_system_slew_ratio", "Momentary correction of the frequency that works off the offset.")
	systemJitter         = define(gauge, "ntp_system_jitter_seconds", "Jitter of the combined offset.")
	systemEstimatedError = define(gauge, "ntp_system_estimated_error_seconds", "Standard deviation of the clock's error, as estimated.")
	systemDisruptions    = define(counter, "ntp_system_disruptions_total", "Times that somebody else has set the clock, or the machine slept.")
	systemRival          = define(gauge, "ntp_system_rival", "1: somebody else keeps setting the clock, three times in a minute and not ten minutes ago.")
	systemErrorBound     = define(gauge, "ntp_system_error_bound_seconds", "Greatest possible error: |offset| + root dispersion + root delay / 2; grows between updates. +Inf: not known.")
	systemLastUpdate     = define(gauge, "ntp_system_last_update_timestamp_seconds", "When the clock was last updated; 0, never.")
	systemUpdates        = define(counter, "ntp_system_updates_total", "Updates of the clock.")
	systemSteps          = define(counter, "ntp_system_steps_total", "Steps of the clock.")
	systemPanic          = define(gauge, "ntp_system_panic_offset_seconds", "Correction refused because it is beyond the panic limit; 0, none is.")
	systemMachineOffset  = define(gauge, "ntp_system_machine_offset_seconds", "Reference minus the machine's clock; there while that is only observed, with clock.driver observe.")
	systemTAI            = define(gauge, "ntp_system_tai_offset_seconds", "TAI minus UTC; there while it is known.")
	systemLeapPending    = define(gauge, "ntp_system_leap_pending_timestamp_seconds", "When the armed leap second happens; there while one is armed.")
	sourcesConfigured    = define(gauge, "ntp_sources_configured", "Lines of `sources:` in the configuration.")
	sourcesInUse         = define(gauge, "ntp_sources_in_use", "Lines of `sources:` with an association at least: not those whose name does not resolve, whose address another line has, or that have heard no broadcast.")
	systemReference      = define(gauge, "ntp_system_reference_info", "The system peer and the reference id shown to clients; always 1.", "source", "refid")
)

var sourceLabels = []string{"name", "address", "id"}

func defineSource(k kind, name, help string, more ...string) *metric {
	return define(k, name, help, append(append([]string{}, sourceLabels...), more...)...)
}

// The sources.
var (
	sourcePoll           = defineSource(gauge, "ntp_source_poll_interval_seconds", "Present poll interval.")
	sourceUnanswered     = defineSource(gauge, "ntp_source_unanswered_polls", "Polls since the last good answer, at most 8.")
	sourceOffset         = defineSource(gauge, "ntp_source_offset_seconds", "Source minus local clock.")
	sourceDelay          = defineSource(gauge, "ntp_source_delay_seconds", "Round trip of the last sample.")
	sourceUncertainty    = defineSource(gauge, "ntp_source_uncertainty_seconds", "Half width of the interval that holds the true offset.")
	sourceRootDelay      = defineSource(gauge, "ntp_source_root_delay_seconds", "The source's own round trip to its primary reference.")
	sourceRootDispersion = defineSource(gauge, "ntp_source_root_dispersion_seconds", "The source's own root dispersion.")
	sourceState          = defineSource(gauge, "ntp_source_state", "1 for the state the source is in, 0 for the others.", "state")
	sourceSelected       = defineSource(gauge, "ntp_source_selected", "1 for the system peer.")
	sourceStratum        = defineSource(gauge, "ntp_source_stratum", "The source's stratum; 16, not synchronized or not heard yet.")
	sourceLeap           = defineSource(gauge, "ntp_source_leap_indicator", "The source's leap indicator, as ntp_system_leap_indicator.")
	sourceReachability   = defineSource(gauge, "ntp_source_reachability_ratio", "Share of the last eight polls that were answered.")
	sourceSampleAge      = defineSource(gauge, "ntp_source_last_sample_age_seconds", "Time since the last sample; there once there is one.")
	sourceJitter         = defineSource(gauge, "ntp_source_jitter_seconds", "Jitter of the source's offset.")
	sourceWeight         = defineSource(gauge, "ntp_source_weight_ratio", "Share in the combined offset.")
	sourceFrequency      = defineSource(gauge, "ntp_source_frequency_ratio", "Frequency of the source against the raw oscillator.")
	sourceSamples        = defineSource(counter, "ntp_source_samples_total", "Samples taken.")
	sourceSent           = defineSource(counter, "ntp_source_sent_packets_total", "Packets sent to the source.")
	sourceAccepted       = defineSource(counter, "ntp_source_accepted_packets_total", "Packets of the source that passed all tests.")
	sourceRejected       = defineSource(counter, "ntp_source_rejected_total", "Packets refused, by the test they failed.", "reason")
	refclockRefused      = defineSource(counter, "ntp_refclock_refused_total", "Readings of a reference clock that its driver refused, by reason.", "reason")
	sourceCookies        = defineSource(gauge, "ntp_source_nts_cookies_available", "Cookies left of a source with NTS, 0 to 8.")
	sourceExchanges      = defineSource(counter, "ntp_source_nts_key_exchanges_total", "Key exchanges begun with a source with NTS.")
	sourceKisses         = defineSource(counter, "ntp_source_kod_total", "Kiss-o'-death packets believed, by code.", "code")
)

// associationDrops is of all associations: a flood names none.
var associationDrops = define(counter, "ntp_association_dropped_packets_total", "Packets for associations that came faster than they were read.")

var logLinesLost = define(counter, "ntp_log_lost_lines_total", "Lines of the log that were dropped, since nobody read standard error.")

// Serving.
var (
	serverListening      = define(gauge, "ntp_server_listening", "1 where requests are served; 0, this machine does not have the address at present.", "listen_address")
	serverReceived       = define(counter, "ntp_server_received_packets_total", "Packets received.", "listen_address")
	serverAccepted       = define(counter, "ntp_server_accepted_packets_total", "Packets answered with the time.", "listen_address")
	serverDenied         = define(counter, "ntp_server_denied_packets_total", "Packets refused for want of rights or a valid MAC.", "listen_address")
	serverIgnored        = define(counter, "ntp_server_ignored_packets_total", "Packets that draw no answer: malformed, or no request.", "listen_address")
	serverControl        = define(counter, "ntp_server_control_packets_total", "Control queries (mode 6) answered.", "listen_address")
	serverPassed         = define(counter, "ntp_server_passed_packets_total", "Packets handed to an association (modes 1, 2, 4 and 5).", "listen_address")
	serverRateLimited    = define(counter, "ntp_server_rate_limited_packets_total", "Packets over the rate limit.", "listen_address")
	serverFastPath       = define(counter, "ntp_server_fast_path_packets_total", "NTP packets seen in the driver, by what became of them there.", "result")
	serverFastPathLost   = define(counter, "ntp_server_fast_path_lost_packets_total", "NTP packets redirected in the driver that were lost behind it, by reason.", "reason")
	serverSendErrors     = define(counter, "ntp_server_response_send_errors_total", "Replies that the kernel would not send.", "listen_address")
	serverNTSReceived    = define(counter, "ntp_server_nts_received_packets_total", "Packets received that ask for NTS.", "listen_address")
	serverNTSAccepted    = define(counter, "ntp_server_nts_accepted_packets_total", "Packets answered with the time under NTS.", "listen_address")
	serverNTSDenied      = define(counter, "ntp_server_nts_denied_packets_total", "NTS packets refused.", "listen_address")
	serverNTSRateLimited = define(counter, "ntp_server_nts_rate_limited_packets_total", "NTS packets over the rate limit.", "listen_address")
	serverNTSNAK         = define(counter, "ntp_server_nts_nak_packets_total", "NTS packets answered by NTSN: their cookie could not be opened.", "listen_address")
	serverDropped        = define(counter, "ntp_server_dropped_packets_total", "Packets lost before they were read, since a queue was full.", "listen_address")
	serverDiscarded      = define(counter, "ntp_server_discarded_packets_total", "What the sockets gave up, by reason; not among the packets received.", "listen_address", "reason")
	serverPackets        = define(counter, "ntp_server_packets_total", "Packets received, by mode, version, and what was done; combinations that have occurred.", "mode", "version", "result")
	serverRefused        = define(counter, "ntp_server_refused_total", "Packets not answered with the time, by reason.", "reason")
	serverClients        = define(gauge, "ntp_server_clients", "Clients heard within the last hour, as far as the client log remembers.")
	serverIntervals      = define(histogram, "ntp_server_request_interval_seconds", "These clients by the average interval of their requests; counts of now, so no rate().")
	broadcastSent        = define(counter, "ntp_broadcast_sent_total", "Packets sent in mode 5.")
	ntsConnections       = define(counter, "ntp_nts_ke_connections_total", "Connections to the NTS key establishment server, by result.", "result")
	ntsCertificate       = define(gauge, "ntp_nts_certificate_expiry_timestamp_seconds", "When its certificate expires.")
	ntsKeyAge            = define(gauge, "ntp_nts_key_age_seconds", "Age of the key that new cookies are sealed with.")
)

package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/daemon"
	"timeball/internal/logging"
)

// defaultConfig is where the configuration lies when no flag says otherwise; the
// working directory is never looked into.
const defaultConfig = "/etc/timeball/timeball.yaml"

func newRun() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon in the foreground",
		Long: "Run the daemon in the foreground. SIGHUP reads the configuration again, SIGTERM and\n" +
			"SIGINT stop it in order. Under systemd it announces readiness and feeds the watchdog.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runDaemon(cmd.Context(), path) },
	}
	addConfigFlag(cmd, &path)
	return cmd
}

func addConfigFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", defaultConfig, "configuration `FILE`")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
}

// runDaemon is the life of the service: configuration, daemon, signals.
func runDaemon(ctx context.Context, path string) error {
	hangups := make(chan os.Signal, 1) // one that comes while another waits says nothing new
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	cfg, warnings, err := config.Load(path)
	if err != nil {
		return err
	}
	log, level, err := logging.New(cfg.Log)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	signal.Ignore(syscall.SIGPIPE) // standard error may lose its reader; that ends no daemon
	for _, warning := range warnings {
		log.Warn("configuration: " + warning.String())
	}
	watchdog, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("watchdog not understood; running without", zap.Error(err))
	}
	d, err := daemon.New(cfg, daemon.Options{
		Log: log, Level: level, Path: path, Version: version, Revision: revision(),
		Notify: newNotifier().notify, Watchdog: watchdog,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go reloadOnHangup(ctx, d, hangups)
	return d.Run(ctx)
}

// reloadOnHangup is a goroutine: it reloads at each SIGHUP until ctx ends.
func reloadOnHangup(ctx context.Context, d *daemon.Daemon, hangups <-chan os.Signal) {
	for {
		select {
		case <-hangups:
			_, _ = d.Reload(ctx) // logged there
		case <-ctx.Done():
			return
		}
	}
}

// notifier passes states on to systemd, outside of the daemon's goroutines: a supervisor
// that does not read its socket holds up nobody.
type notifier struct{ states chan string }

// notifierQueue is how many states wait; more are dropped.
const notifierQueue = 16

func newNotifier() *notifier {
	n := &notifier{states: make(chan string, notifierQueue)}
	go func() { // for as long as the process lives; without systemd it does nothing
		for state := range n.states {
			_, _ = sd.SdNotify(false, state)
		}
	}()
	return n
}

func (n *notifier) notify(state string) {
	select {
	case n.states <- state:
	default:
	}
}

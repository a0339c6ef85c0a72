package agent

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/component-base/logs"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

// reloadPeriod is how often the configuration's files are looked at: one stat each.
const reloadPeriod = 10 * time.Second

// liveField is the one that is applied without a restart.
const liveField = "logging.verbosity"

// watchConfiguration tells of a configuration that has changed since the agent started. What is
// in it counts from the next start, as with the kubelet; only the log's verbosity counts at once.
func watchConfiguration(ctx context.Context, cfg *config.Config) error {
	tick := time.NewTicker(reloadPeriod)
	defer tick.Stop()
	w := &configWatch{started: cfg, running: cfg, read: cfg.Fingerprint()}
	w.seen = w.read
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			w.look()
		}
	}
}

// configWatch is what is known of the configuration's files.
type configWatch struct {
	started, running *config.Config
	// read and seen are what the files were when they were last read, and last looked at.
	read, seen string
}

// look reads the files once they have changed and are being changed no more: half a file may well be a
// configuration, too.
func (w *configWatch) look() {
	now := w.started.Fingerprint()
	settled := now == w.seen
	w.seen = now
	if !settled || now == w.read {
		return
	}
	w.read = now
	fresh, warnings, err := w.started.Reload()
	if err != nil {
		klog.ErrorS(err, "The configuration has changed, and the agent could not start with it; it goes on with the one that it has")
		return
	}
	for _, text := range warnings {
		klog.InfoS("Warning about the changed configuration: " + text)
	}
	if slices.Contains(config.Differences(w.running, fresh), liveField) {
		applyVerbosity(fresh)
	}
	w.running = fresh
	waiting := slices.DeleteFunc(config.Differences(w.started, fresh), func(f string) bool { return f == liveField })
	if len(waiting) == 0 {
		klog.InfoS("The configuration's files have changed; nothing of it waits for a restart")
		return
	}
	klog.InfoS("The configuration has changed, and these fields count from the next start of the agent, which harms no pod", "fields", strings.Join(waiting, ", "))
}

func applyVerbosity(cfg *config.Config) {
	level := strconv.FormatUint(uint64(cfg.Logging.Verbosity), 10)
	if _, err := logs.GlogSetter(level); err != nil {
		klog.ErrorS(err, "Could not change the log's verbosity", "level", level)
		return
	}
	klog.InfoS("The log's verbosity is that of the changed configuration", "level", level)
}

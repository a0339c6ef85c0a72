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
	last, running := cfg.Fingerprint(), cfg
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := cfg.Fingerprint()
		if now == last {
			continue
		}
		last = now
		fresh, err := cfg.Reload()
		if err != nil {
			klog.ErrorS(err, "The configuration has changed, and the agent could not start with it; it goes on with the one that it has")
			continue
		}
		if slices.Contains(config.Differences(running, fresh), liveField) {
			applyVerbosity(fresh)
		}
		running = fresh
		waiting := slices.DeleteFunc(config.Differences(cfg, fresh), func(f string) bool { return f == liveField })
		if len(waiting) == 0 {
			klog.InfoS("The configuration's files have changed; nothing of it waits for a restart")
			continue
		}
		klog.InfoS("The configuration has changed, and these fields count from the next start of the agent, which harms no pod", "fields", strings.Join(waiting, ", "))
	}
}

func applyVerbosity(cfg *config.Config) {
	level := strconv.FormatUint(uint64(cfg.Logging.Verbosity), 10)
	if _, err := logs.GlogSetter(level); err != nil {
		klog.ErrorS(err, "Could not change the log's verbosity", "level", level)
		return
	}
	klog.InfoS("The log's verbosity is that of the changed configuration", "level", level)
}

// Package sdnotify tells systemd, where it started the agent and wants to know, that the
// agent is up and that it is well: READY=1, and WATCHDOG=1 as long as the sync loop turns
// (sd_notify(3); the kubelet's SystemdWatchdog). Without the last one systemd kills the
// agent and starts it anew, which harms no pod.
package sdnotify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
)

// shortest is the least WatchdogSec that is taken, the kubelet's: with less, a busy machine
// would have its agent killed.
const shortest = time.Second

// Config is what a Notifier is made of.
type Config struct {
	// Healthy returns nil while the agent does its work. What a restart of the agent
	// does not mend, such as a runtime that hangs, is none of its business.
	Healthy func(context.Context) error
	Clock   clock.WithTicker
}

// Notifier is one part of the agent; see Run.
type Notifier struct {
	cfg Config
	// every is how often systemd hears of the agent's health, half of WatchdogSec; 0: never.
	every time.Duration
	// failing is why systemd cannot be told.
	failing logonce.Error
}

// New reads what systemd asks for in the environment (NOTIFY_SOCKET, WATCHDOG_USEC and
// WATCHDOG_PID).
func New(cfg Config) (*Notifier, error) {
	if cfg.Healthy == nil || cfg.Clock == nil {
		return nil, errors.New("sdnotify: no Healthy or no Clock")
	}
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("systemd's watchdog: %w", err)
	}
	if limit != 0 && limit <= shortest {
		return nil, fmt.Errorf("systemd's watchdog: WatchdogSec is %v and must be more than %v", limit, shortest)
	}
	return &Notifier{cfg: cfg, every: limit / 2}, nil
}

// Run tells systemd that the agent is ready, then again and again that it is well, and at
// last, when ctx ends, that it stops. Where nobody wants to know it only waits.
func (n *Notifier) Run(ctx context.Context) error {
	n.tell(daemon.SdNotifyReady)
	defer n.tell(daemon.SdNotifyStopping)
	if n.every == 0 {
		<-ctx.Done()
		return nil
	}
	klog.InfoS("Systemd watches the agent", "interval", n.every)
	ticker := n.cfg.Clock.NewTicker(n.every)
	defer ticker.Stop()
	for {
		if err := n.cfg.Healthy(ctx); err == nil {
			n.tell(daemon.SdNotifyWatchdog)
		} else if ctx.Err() == nil {
			klog.ErrorS(err, "The agent is not well, which systemd is not told otherwise: it will restart the agent")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

// tell sends systemd one message. One that is lost does no harm: READY is not waited for by
// the agent, and the watchdog hears twice in its time.
func (n *Notifier) tell(state string) {
	if _, err := daemon.SdNotify(false, state); n.failing.Note(err) && err != nil {
		klog.ErrorS(err, "Could not notify systemd", "state", state)
	}
}

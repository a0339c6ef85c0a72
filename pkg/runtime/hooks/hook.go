// Package hooks runs the lifecycle hooks of containers, postStart and preStop: a
// command in the container, an HTTP request to the pod, or a sleep. When a hook
// runs and what its failure means is decided in package kuberuntime.
package hooks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
)

// Exec runs commands in containers.
type Exec interface {
	ExecSync(context.Context, *cri.ExecSyncRequest, ...grpc.CallOption) (*cri.ExecSyncResponse, error)
}

// Target is the container that a hook is run for.
type Target struct {
	ContainerID string // the runtime's
	Container   *v1.Container
	// Host returns the pod's address; it is called only for an HTTP hook that names
	// none.
	Host func(context.Context) (string, error)
	// Warn is called with a kubelet event for what the pod's owner should know; nil
	// drops it.
	Warn func(reason, message string)
}

// Config is what a Runner is made of.
type Config struct {
	Exec    Exec
	Metrics prometheus.Registerer // nil: nothing is counted
}

// Runner runs hooks. Safe for concurrent use.
type Runner struct {
	exec      Exec
	http      *http.Client
	fallbacks prometheus.Counter
	cutShort  prometheus.Counter
}

// maxCommand is how much of a command an error repeats, in bytes.
const maxCommand = 1 << 10

// New returns a Runner.
func New(cfg Config) (*Runner, error) {
	set := metricset.New(cfg.Metrics)
	r := &Runner{
		exec: cfg.Exec, http: newClient(),
		fallbacks: set.Counter("kubelet_lifecycle_handler_http_fallbacks_total", "How many HTTPS hooks were answered only when asked again in plain HTTP"),
		cutShort:  set.Counter("kubelet_sleep_action_terminated_early_total", "How many sleep hooks were ended before their time"),
	}
	if err := set.Err(); err != nil {
		return nil, fmt.Errorf("hooks: %w", err)
	}
	return r, nil
}

// Run runs a hook to its end. Only ctx limits its time; when ctx ends, the hook's
// command is killed. tcpSocket is part of the API for old manifests only, and fails
// as in the kubelet.
func (r *Runner) Run(ctx context.Context, t Target, h *v1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		if err := r.command(ctx, t, h.Exec.Command); err != nil {
			return fmt.Errorf("exec lifecycle hook (%s): %w", bounds.Cut(strings.Join(h.Exec.Command, " "), maxCommand), err)
		}
	case h.HTTPGet != nil:
		if err := r.get(ctx, t, h.HTTPGet); err != nil {
			return fmt.Errorf("HTTP lifecycle hook (%s): %w", h.HTTPGet.Path, err)
		}
	case h.Sleep != nil:
		if err := sleep(ctx, time.Duration(h.Sleep.Seconds)*time.Second); err != nil {
			r.cutShort.Inc()
			return fmt.Errorf("sleep lifecycle hook (%d): %w", h.Sleep.Seconds, err)
		}
	case h.TCPSocket != nil:
		return errors.New("cannot run handler: tcpSocket is not supported as a lifecycle hook")
	default:
		return errors.New("cannot run handler: it says nothing to do")
	}
	return nil
}

// maxOutput is how many bytes of a failed command's output its error repeats, from the end of
// what the runtime keeps, which is the first 16 MiB. No less is asked for: the reason of a failure
// comes last.
const maxOutput = 1024

func (r *Runner) command(ctx context.Context, t Target, command []string) error {
	done, err := r.exec.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: t.ContainerID, Cmd: command})
	if err != nil {
		return errors.New(status.Convert(err).Message())
	}
	if done.ExitCode != 0 {
		output := append(done.Stdout, done.Stderr...)
		return fmt.Errorf("exited with %d: %q", done.ExitCode, output[max(0, len(output)-maxOutput):])
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return errors.New("container terminated before sleep hook finished")
	case <-timer.C:
		return nil
	}
}

package access

import (
	"context"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	criservice "k8s.io/cri-api/pkg/apis"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/runtime"
)

// Logs writes the log of o.Container, of its current attempt or of the last that
// ended. A writer is nil when its stream is not wanted. Before it waits for anything
// it writes, if only nothing, so that a client that follows hears at once. It
// returns at the log's end, when following once the container has ended, or when
// ctx ends, with an error.
func (a *Access) Logs(ctx context.Context, name types.NamespacedName, o *v1.PodLogOptions, stdout, stderr io.Writer) error {
	pod, err := a.pod(name, "")
	if err != nil {
		return err
	}
	if ok, _ := declared(pod, o.Container); !ok {
		return status.Errorf(codes.NotFound, "container %q not found in pod %q", o.Container, pod.Name)
	}
	observed, ok := a.cfg.Statuses.Get(pod.UID)
	if !ok {
		observed = pod.Status
	}
	id, err := logged(pod.Name, &observed, o.Container, o.Previous)
	if err != nil {
		return err
	}
	r, err := a.cfg.CRI.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id.ID})
	if err != nil {
		return fmt.Errorf("unable to retrieve container logs for %v: %s", id, status.Convert(err).Message())
	}
	path := r.GetStatus().GetLogPath()
	if path == "" {
		return fmt.Errorf("unable to retrieve container logs for %v: the runtime keeps none", id)
	}
	for _, w := range []io.Writer{stdout, stderr} {
		if w == nil {
			continue
		}
		if _, err := w.Write(nil); err != nil {
			return err
		}
	}
	return logs.ReadLogs(quiet(ctx), path, id.ID, readOptions(o, time.Now()), follower{access: a, pod: pod.UID}, stdout, stderr)
}

func readOptions(o *v1.PodLogOptions, now time.Time) *logs.LogOptions {
	read := &logs.LogOptions{TailLines: o.TailLines, LimitBytes: o.LimitBytes, Follow: o.Follow, Timestamp: o.Timestamps}
	switch {
	case o.SinceSeconds != nil:
		read.Since = now.Add(-time.Duration(*o.SinceSeconds) * time.Second)
	case o.SinceTime != nil:
		read.Since = o.SinceTime.Time
	}
	return read
}

// quiet keeps the library's own notes out of the log: it writes one when a client
// goes away, and its errors are returned as well.
func quiet(ctx context.Context) context.Context {
	if klog.V(4).Enabled() {
		return ctx
	}
	return klog.NewContext(ctx, klog.Logger{})
}

// follower is how the library asks, with each line and each second, whether the
// container that it follows still runs. What PLEG has seen answers that. It is
// told of an end by the runtime's events; when it knows nothing the runtime is asked.
type follower struct {
	criservice.RuntimeService // nil: the library calls nothing else
	access                    *Access
	pod                       types.UID
}

// cacheWait bounds the wait for a cache that is still empty.
const cacheWait = time.Second

func (f follower) ContainerStatus(ctx context.Context, id string, _ bool) (*cri.ContainerStatusResponse, error) {
	switch f.seen(ctx, id) {
	case runtime.StateRunning:
		return is(cri.ContainerState_CONTAINER_RUNNING), nil
	case runtime.StateExited:
		return is(cri.ContainerState_CONTAINER_EXITED), nil
	}
	r, err := f.access.cfg.CRI.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
	if status.Code(err) == codes.NotFound { // removed: its log ends here
		return is(cri.ContainerState_CONTAINER_EXITED), nil
	}
	return r, err
}

func (f follower) seen(ctx context.Context, id string) runtime.State {
	ctx, cancel := context.WithTimeout(ctx, cacheWait)
	defer cancel()
	pod, err := f.access.cfg.Cache.GetNewerThan(ctx, f.pod, time.Time{})
	if err != nil {
		return runtime.StateUnknown
	}
	for _, c := range pod.Containers {
		if c.ID.ID == id {
			return c.State
		}
	}
	return runtime.StateUnknown
}

func is(s cri.ContainerState) *cri.ContainerStatusResponse {
	return &cri.ContainerStatusResponse{Status: &cri.ContainerStatus{State: s}}
}

// logged returns the container whose log is meant: the one that runs, else the last
// that ended; or says why there is none. Rules and words are the kubelet's.
func logged(pod string, s *v1.PodStatus, name string, previous bool) (runtime.ContainerID, error) {
	c := find(s, name)
	if c == nil {
		return runtime.ContainerID{}, fmt.Errorf("container %q in pod %q is not available", name, pod)
	}
	last := ""
	if t := c.LastTerminationState.Terminated; t != nil {
		last = t.ContainerID
	}
	id := ""
	switch state := c.State; {
	case previous:
		if id = last; id == "" {
			return runtime.ContainerID{}, fmt.Errorf("previous terminated container %q in pod %q not found", name, pod)
		}
	case state.Running != nil:
		id = c.ContainerID
	case state.Terminated != nil || c.LastTerminationState.Terminated != nil:
		if state.Terminated != nil {
			id = state.Terminated.ContainerID
		}
		if id == "" { // the attempt after that was never made
			id = last
		}
		if id == "" {
			return runtime.ContainerID{}, fmt.Errorf("container %q in pod %q is terminated", name, pod)
		}
	case state.Waiting != nil:
		why := state.Waiting.Reason
		switch why {
		case "ErrImagePull":
			why = "image can't be pulled"
		case "ImagePullBackOff":
			why = "trying and failing to pull image"
		}
		return runtime.ContainerID{}, fmt.Errorf("container %q in pod %q is waiting to start: %s", name, pod, why)
	default:
		return runtime.ContainerID{}, fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", name, pod)
	}
	return runtime.ParseContainerID(id)
}

func find(s *v1.PodStatus, name string) *v1.ContainerStatus {
	for _, list := range [][]v1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

package podaccess

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Logs writes the log of o.Container, of its current attempt or of the last one that
// ended. A writer is nil if its stream is not wanted. Before it waits for anything
// it writes, even if only nothing, so that a client that follows gets an answer at
// once. It returns at the log's end, or when following once the container has ended;
// if ctx ends, it returns an error.
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
	if wait := firstOutputWithin(r.GetStatus(), o, time.Now()); wait > 0 {
		a.awaitOutput(ctx, path, wait)
	}
	log, err := openLog(path, &a.watched)
	if errors.Is(err, fs.ErrNotExist) && r.GetStatus().GetState() == cri.ContainerState_CONTAINER_RUNNING {
		a.awaitLog(ctx, path)
		log, err = openLog(path, &a.watched)
	}
	if err != nil {
		return fmt.Errorf("unable to retrieve container logs for %v: %w", id, err)
	}
	defer log.close()
	for _, w := range []io.Writer{stdout, stderr} {
		if w == nil {
			continue
		}
		if _, err := w.Write(nil); err != nil {
			return err
		}
	}
	running := follower{access: a, pod: pod.UID, id: id.ID}.running
	if err := log.write(ctx, o, time.Now(), running, stdout, stderr); err != nil {
		return fmt.Errorf("unable to retrieve container logs for %v: %w", id, err)
	}
	return nil
}

// youth is how old a container is when it is not given more time for its first output.
const youth = time.Second

// firstOutputWithin returns how long a log that is still empty is waited for. The status says
// Running within milliseconds of the start, before a shell has run its first command, and a
// client that reads the log at that moment, and does not follow it, expects the first lines.
func firstOutputWithin(s *cri.ContainerStatus, o *v1.PodLogOptions, now time.Time) time.Duration {
	age := now.Sub(time.Unix(0, s.GetStartedAt()))
	if o.Follow || o.TailLines != nil && *o.TailLines == 0 || s.GetState() != cri.ContainerState_CONTAINER_RUNNING || age < 0 || age >= youth {
		return 0
	}
	return youth - age
}

// awaitOutput returns when there is something in the log, or it cannot be known, or after that
// time.
func (a *Access) awaitOutput(ctx context.Context, path string, most time.Duration) {
	empty := func() bool {
		fi, err := os.Lstat(path)
		return err == nil && fi.Mode().IsRegular() && fi.Size() == 0 || errors.Is(err, fs.ErrNotExist)
	}
	if !empty() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	changes := watch(path, &a.watched)
	defer changes.close()
	for empty() && changes.wait(ctx, most/10) == nil {
	}
}

// reopenedWithin is how long a log is waited for that is away: it is just being rotated.
const reopenedWithin = time.Second

// awaitLog returns when there is a log, or after a while.
func (a *Access) awaitLog(ctx context.Context, path string) {
	ctx, cancel := context.WithTimeout(ctx, reopenedWithin)
	defer cancel()
	changes := watch(path, &a.watched)
	defer changes.close()
	for {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) || changes.wait(ctx, reopenedWithin/10) != nil {
			return
		}
	}
}

// follower reports whether the container whose log is followed still runs. It is asked
// with each line and each second, and answers from what PLEG has seen, which the
// runtime's events keep current. If PLEG knows nothing, it asks the runtime.
type follower struct {
	access *Access
	pod    types.UID
	id     string
}

// cacheWait bounds the wait for a cache that is still empty.
const cacheWait = time.Second

func (f follower) running(ctx context.Context) (bool, error) {
	switch f.seen(ctx) {
	case actual.StateRunning:
		return true, nil
	case actual.StateExited:
		return false, nil
	}
	r, err := f.access.cfg.CRI.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: f.id})
	switch status.Code(err) {
	case codes.OK:
		return r.GetStatus().GetState() == cri.ContainerState_CONTAINER_RUNNING, nil
	case codes.NotFound: // removed: its log ends here
		return false, nil
	case codes.Unavailable: // the runtime restarts, the container may run on
		return true, nil
	}
	return false, err
}

func (f follower) seen(ctx context.Context) actual.State {
	ctx, cancel := context.WithTimeout(ctx, cacheWait)
	defer cancel()
	pod, err := f.access.cfg.Cache.GetNewerThan(ctx, f.pod, time.Time{})
	if err != nil {
		return actual.StateUnknown
	}
	for _, c := range pod.Containers {
		if c.ID.ID == f.id {
			return c.State
		}
	}
	return actual.StateUnknown
}

// logged returns the container whose log is meant: the running one, else the last
// that ended; or an error that says why there is none. Rules and words are the
// kubelet's.
func logged(pod string, s *v1.PodStatus, name string, previous bool) (actual.ContainerID, error) {
	c := find(s, name)
	if c == nil {
		return actual.ContainerID{}, fmt.Errorf("container %q in pod %q is not available", name, pod)
	}
	last := ""
	if t := c.LastTerminationState.Terminated; t != nil {
		last = t.ContainerID
	}
	id := ""
	switch state := c.State; {
	case previous:
		if id = last; id == "" {
			return actual.ContainerID{}, fmt.Errorf("previous terminated container %q in pod %q not found", name, pod)
		}
	case state.Running != nil:
		id = c.ContainerID
	case state.Terminated != nil || c.LastTerminationState.Terminated != nil:
		if state.Terminated != nil {
			id = state.Terminated.ContainerID
		}
		if id == "" { // the attempt after that was never created
			id = last
		}
		if id == "" {
			return actual.ContainerID{}, fmt.Errorf("container %q in pod %q is terminated", name, pod)
		}
	case state.Waiting != nil:
		why := state.Waiting.Reason
		switch why {
		case "ErrImagePull":
			why = "image can't be pulled"
		case "ImagePullBackOff":
			why = "trying and failing to pull image"
		}
		return actual.ContainerID{}, fmt.Errorf("container %q in pod %q is waiting to start: %s", name, pod, why)
	default:
		return actual.ContainerID{}, fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", name, pod)
	}
	return actual.ParseContainerID(id)
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

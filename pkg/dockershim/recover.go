package dockershim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// tidyPeriod is how often missed events are repaired.
const tidyPeriod = time.Minute

// recover takes up what an earlier process left. It runs before the first call is answered;
// what plug-ins must do, which may take any time, is tidy's.
func (s *Server) recover(ctx context.Context) error {
	items, err := s.containers.List(ctx, "")
	if err != nil {
		return err
	}
	s.lookAt(ctx, items, func(it docker.Item) bool { return it.State == docker.StateCreated }, func(it docker.Item, r *container.InspectResponse) {
		// Docker lists a container that could not be started as created.
		if r.State != nil && (r.State.ExitCode != 0 || r.State.Error != "") {
			s.containers.StartFailed(it.ID)
		}
	})
	s.takeUp(ctx, items)
	if n := len(items); n > 0 {
		klog.InfoS("Took up the containers that are there", "containers", n)
	}
	return nil
}

// tidy repeats, until ctx ends, what has to succeed in the end.
func (s *Server) tidy(ctx context.Context) error {
	tick := time.NewTicker(tidyPeriod)
	defer tick.Stop()
	warned := ""
	for first := true; ; first = false {
		if w := s.network.Warning(); w != "" && w != warned {
			klog.Warningf("Pod network of plug-in %s: %s", s.network.Name(), w)
			warned = w
		}
		items, err := s.containers.List(ctx, "")
		if err == nil { // lists of clients fail as well, and say why
			if !first { // recover has just done it
				s.takeUp(ctx, items)
			}
			if err := s.forgetGone(ctx, items); err != nil && ctx.Err() == nil {
				klog.ErrorS(err, "Could not give back the network of sandboxes that are gone, trying again", "after", tidyPeriod)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// takeUp follows the logs of all containers, and releases images that are not used any more.
func (s *Server) takeUp(ctx context.Context, items []docker.Item) {
	s.lookAt(ctx, items, func(it docker.Item) bool { return it.State != docker.StateCreated }, func(it docker.Item, r *container.InspectResponse) {
		if err := s.followLog(ctx, it.ID, r.Config.Labels[docker.LabelLogPath]); err != nil {
			klog.ErrorS(err, "Could not follow a container's log", "containerID", it.ID)
			return
		}
		if it.State == docker.StateExited {
			s.finishLog(ctx, it.ID)
		}
	})
	s.volumes.Release(ctx)
}

// Docker does not answer about a container whose runtime hangs. Neither the other containers
// nor the start of the agent must wait for it.
const (
	looks    = 16              // containers that are asked about at a time
	patience = 5 * time.Second // for each
)

// lookAt calls see, from several goroutines, with the containers that are wanted. A container
// that Docker does not show is left out.
func (s *Server) lookAt(ctx context.Context, items []docker.Item, wanted func(docker.Item) bool, see func(docker.Item, *container.InspectResponse)) {
	var group errgroup.Group
	group.SetLimit(looks)
	for _, it := range items {
		if it.IsSandbox || !wanted(it) {
			continue
		}
		group.Go(func() error {
			asked, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			r, err := s.containers.Inspect(asked, it.ID)
			switch {
			case err == nil:
				_ = recovery.Call(func() error { see(it, r); return nil }) // a panic is logged
			case asked.Err() != nil && ctx.Err() == nil:
				klog.ErrorS(err, "Docker does not answer about a container, going on without it", "containerID", it.ID)
			}
			return nil
		})
	}
	_ = group.Wait() // none fails
}

// forgetGone detaches sandboxes that do not exist any more, and then drops their checkpoints.
// items are those that existed a moment ago.
func (s *Server) forgetGone(ctx context.Context, items []docker.Item) error {
	there := make(map[string]bool, len(items))
	for _, it := range items {
		there[it.ID] = true
	}
	var mu sync.Mutex
	var errs []error
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	// A sandbox may have come since the list was made, and is perhaps being attached.
	exists := func(id string) bool {
		if there[id] {
			return true
		}
		asked, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		existing, err := s.sandboxID(asked, id)
		if err != nil {
			fail(err)
		}
		return err != nil || existing != ""
	}
	fail(s.network.Reconcile(ctx, exists))
	ids, err := s.checkpoints.List()
	fail(err)
	var group errgroup.Group
	group.SetLimit(looks)
	for _, id := range ids {
		group.Go(func() error {
			fail(recovery.Call(func() error {
				if exists(id) {
					return nil
				}
				if err := s.network.TearDown(ctx, id, ""); err != nil {
					return fmt.Errorf("detach sandbox %s: %w", id, err)
				}
				return s.checkpoints.Remove(id)
			}))
			return nil
		})
	}
	_ = group.Wait() // none fails
	return errors.Join(errs...)
}

// happened does what an event of Docker's makes necessary here, and passes it on.
func (s *Server) happened(e docker.Event) {
	switch {
	case e.Action == events.ActionDie:
		s.made.forget(e.ID)
		s.usage.forget(e.ID)
		if !e.IsSandbox() {
			s.tasks.Go(func() { s.finishLog(s.base, e.ID) })
		}
	case e.Action == events.ActionDestroy && e.IsSandbox():
		s.made.forget(e.ID)
		s.tasks.Go(func() {
			if err := s.network.TearDown(s.base, e.ID, ""); err == nil {
				_ = s.checkpoints.Remove(e.ID) // forgetGone tries again
			}
		})
	case e.Action == events.ActionDestroy:
		s.made.forget(e.ID)
		s.usage.forget(e.ID)
		s.logs.Forget(e.ID)
	}
	s.subscribers.tell(e)
}

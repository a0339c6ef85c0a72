package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Holding is one thing that a pod has of the node while it is here: volumes, a cgroup, CPUs.
// Workers walk the list of them in its order to set a pod up, and backwards to release what it
// had. Every function may be nil, and may be called again after a crash between any two steps.
type Holding struct {
	Name string // for errors: "volumes"
	// SetUp prepares what the pod's containers need before they start. It is called in each
	// sync, with the pod as it is wanted now.
	SetUp func(ctx context.Context, pod *v1.Pod) error
	// Settle is called once the containers are as the pod wants them.
	Settle func(pod *v1.Pod) error
	// Stopped is called when nothing of the pod runs any more, before anybody is told so.
	Stopped func(uid types.UID) error
	// Release takes back what a pod still has once it no longer runs.
	Release func(ctx context.Context, uid types.UID) error
	// Orphans releases what pods that are gone still have: pods that nobody wants, without a
	// worker and without containers.
	Orphans func(ctx context.Context, gone func(types.UID) bool) error

	// Reason and Prefix make the pod's event when SetUp fails. ReasonOf, unless nil, says another
	// reason for an error, or "". Where neither has one there is no event.
	Reason, Prefix string
	ReasonOf       func(error) string
}

// setUp sets up everything that the pod holds.
func (w *Workers) setUp(ctx context.Context, st step) error {
	for _, h := range w.cfg.Holdings {
		if h.SetUp == nil {
			continue
		}
		begun := time.Now()
		err := h.SetUp(ctx, st.pod)
		w.noteHolding(st, h.Name, "set up", time.Since(begun), err)
		if err != nil {
			if reason := h.reason(err); reason != "" && ctx.Err() == nil {
				w.complain(st, reason, h.Prefix+err.Error())
			}
			return fmt.Errorf("set up the %s of %s: %w", h.Name, st.ref(), err)
		}
	}
	return nil
}

func (h Holding) reason(err error) string {
	if h.ReasonOf != nil {
		return cmp.Or(h.ReasonOf(err), h.Reason)
	}
	return h.Reason
}

// settle calls Settle for everything that the pod holds: its containers are now as
// it wants them.
func (w *Workers) settle(st step) error {
	var errs []error
	for _, h := range w.cfg.Holdings {
		if h.Settle != nil {
			errs = append(errs, h.Settle(st.pod))
		}
	}
	return errors.Join(errs...)
}

// stopped gives back what others may use as soon as nothing of the pod runs.
func (w *Workers) stopped(st step) error {
	for _, h := range w.cfg.Holdings {
		if h.Stopped == nil {
			continue
		}
		if err := h.Stopped(st.uid); err != nil {
			return fmt.Errorf("release the %s of %s: %w", h.Name, st.ref(), err)
		}
	}
	return nil
}

// releaseAll gives back the rest, in reverse order: what was set up later may need what
// was set up before.
func (w *Workers) releaseAll(ctx context.Context, st step) error {
	for i := len(w.cfg.Holdings) - 1; i >= 0; i-- {
		h := w.cfg.Holdings[i]
		if h.Release == nil {
			continue
		}
		begun := time.Now()
		err := h.Release(ctx, st.uid)
		w.noteHolding(st, h.Name, "released", time.Since(begun), err)
		if err != nil {
			return fmt.Errorf("release the %s of %s: %w", h.Name, st.ref(), err)
		}
	}
	return nil
}

// Orphans releases what pods that are gone still hold, see Holding.Orphans. It continues after
// a failure and may take long: unmounting can hang on a dead server.
func (w *Workers) Orphans(ctx context.Context, gone func(types.UID) bool) error {
	var errs []error
	for i := len(w.cfg.Holdings) - 1; i >= 0; i-- {
		if h := w.cfg.Holdings[i]; h.Orphans != nil {
			errs = append(errs, h.Orphans(ctx, gone))
		}
	}
	return errors.Join(errs...)
}

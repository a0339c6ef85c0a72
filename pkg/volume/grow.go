package volume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/timequeue"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume/growth"
)

// ClaimStatuses are claims as the API server has them now, and their statuses.
type ClaimStatuses interface {
	Look(ctx context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error)
	// PatchStatus makes the status what it is in now. If the claim is no longer as it was before,
	// the error satisfies apierrors.IsConflict.
	PatchStatus(ctx context.Context, before, now *v1.PersistentVolumeClaim) (*v1.PersistentVolumeClaim, error)
}

// Growth is what enlarging volumes needs; all of it is required.
type Growth struct {
	Claims ClaimStatuses
	// Normal and Event record an event of a pod and of a claim. They must not block.
	Normal func(pod *v1.Pod, reason, message string)
	Event  func(claim *v1.PersistentVolumeClaim, eventType, reason, message string)
}

// growable is a kind of volume that has something to do when it was enlarged.
type growable interface {
	grow(ctx context.Context, bytes int64) error
}

// The kubelet's reasons of events.
const (
	resized       = "FileSystemResizeSuccessful"
	resizeRefused = "FileSystemResizeFailed"
	resizeFailed  = "VolumeResizeFailed"
)

const (
	// growthLook is how often a claim is looked at at most. The kubelet looks at each sync of a pod
	// that has it, which is at least every 90 s.
	growthLook = 10 * time.Second
	// The pauses between attempts to grow a volume that failed.
	firstGrowth = 5 * time.Second
	lastGrowth  = 2 * time.Minute
)

// user is a volume of a pod.
type user struct {
	pod *v1.Pod
	v   *v1.Volume
}

func (u user) readOnly() bool {
	return u.v.PersistentVolumeClaim != nil && u.v.PersistentVolumeClaim.ReadOnly
}

// grower has volumes grow that were enlarged: before a pod gets them, and while pods have them, where
// a driver that hangs holds up nobody. A nil one does nothing.
type grower struct {
	Growth
	m     *Manager
	now   func() time.Time
	wake  chan struct{}
	queue timequeue.Queue[string] // of persistent volumes to be looked at

	mu      sync.Mutex
	volumes map[string]*growing // by persistent volume: those that pods have
}

// growing is a volume that pods of this node have.
type growing struct {
	users  map[types.UID]user // those that may write to it
	known  resource.Quantity  // its size on this node; 0: not known yet
	failed bool               // an attempt has ended with an error of the driver
	inUse  bool               // the driver does not do it while pods have it
	busy   bool
	asleep bool          // it failed, and is in the queue to be tried again
	pause  time.Duration // the last one after a failure
	looked time.Time
}

func newGrower(m *Manager, cfg Growth) *grower {
	return &grower{Growth: cfg, m: m, now: time.Now, wake: make(chan struct{}, 1), volumes: map[string]*growing{}}
}

// isUngrown reports whether a pod's volume is mounted and could not be enlarged yet: the pod does
// not start with it.
func (m *Manager) isUngrown(uid types.UID, name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ungrown[uid][name]
}

func (m *Manager) setUngrown(uid types.UID, name string, is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !is {
		delete(m.ungrown[uid], name)
		return
	}
	if m.ungrown[uid] == nil {
		m.ungrown[uid] = map[string]bool{}
	}
	m.ungrown[uid][name] = true
}

func (g *grower) growable(u user, pv *v1.PersistentVolume) growable {
	k, err := g.m.persistent(u.pod, u.v, pv)
	if err != nil {
		return nil
	}
	gr, _ := k.(growable)
	return gr
}

// seen is told of each sync of a pod that has the volume.
func (g *grower) seen(u user, pv *v1.PersistentVolume) {
	if g == nil || u.readOnly() || g.growable(u, pv) == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.entry(pv.Name)
	w.users[u.pod.UID] = u
	if !w.busy && !w.asleep && !w.inUse && g.now().Sub(w.looked) >= growthLook {
		g.soon(pv.Name, 0)
	}
}

// entry is called with the lock held.
func (g *grower) entry(pv string) *growing {
	w := g.volumes[pv]
	if w == nil {
		w = &growing{users: map[types.UID]user{}}
		g.volumes[pv] = w
	}
	return w
}

// soon has the volume looked at after a pause.
func (g *grower) soon(pv string, pause time.Duration) {
	if g.queue.Set(pv, g.now().Add(pause)) {
		select {
		case g.wake <- struct{}{}:
		default:
		}
	}
}

// forget is told of a pod that has no volumes any more. What the last pod of a volume leaves says
// nothing about the next time.
func (g *grower) forget(uid types.UID) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for pv, w := range g.volumes {
		delete(w.users, uid)
		if len(w.users) == 0 {
			delete(g.volumes, pv)
			g.queue.Forget(pv)
		}
	}
}

// run looks at volumes, each in a goroutine of its own, until ctx ends and all have finished.
func (g *grower) run(ctx context.Context) error {
	if g == nil {
		<-ctx.Done()
		return nil
	}
	var looking sync.WaitGroup
	defer looking.Wait()
	for {
		due, next := g.queue.Take(g.now())
		for _, pv := range due {
			if u, ok := g.begin(pv); ok {
				looking.Go(func() {
					err := recovery.Call(func() error { return g.look(ctx, pv, u) })
					g.end(ctx, pv, u, err)
				})
			}
		}
		var rest <-chan time.Time
		if !next.IsZero() {
			rest = time.After(next.Sub(g.now()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-g.wake:
		case <-rest:
		}
	}
}

// begin returns one of the pods that have the volume, unless it is being looked at.
func (g *grower) begin(pv string) (user, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.volumes[pv]
	if w == nil || w.busy {
		return user{}, false
	}
	w.busy, w.asleep, w.looked = true, false, g.now()
	for _, u := range w.users {
		return u, true
	}
	w.busy = false
	return user{}, false
}

func (g *grower) end(ctx context.Context, pv string, u user, err error) {
	if errors.Is(err, csi.ErrNotPublished) || ctx.Err() != nil {
		err = nil // the pod is on its way out, or the agent
	}
	if err != nil {
		g.m.warn(u.pod, resizeFailed, fmt.Sprintf("NodeExpandVolume.NodeExpandVolume failed for volume %q : %v", pv, err))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.volumes[pv]
	if w == nil {
		return
	}
	w.busy = false
	if err == nil {
		w.pause = 0
		return
	}
	w.pause = min(max(2*w.pause, firstGrowth), lastGrowth)
	w.asleep = true
	g.soon(pv, w.pause)
}

// look grows a volume that pods have if it was enlarged. An error is one of growing it; that the API
// server cannot be asked is no event of the pod, which has lost nothing by it.
func (g *grower) look(ctx context.Context, name string, u user) error {
	claim, err := g.Claims.Look(ctx, u.pod.Namespace, ClaimName(u.pod, u.v))
	if err != nil {
		klog.V(2).ErrorS(err, "Could not look whether a volume has grown", "pod", klog.KObj(u.pod), "podUID", u.pod.UID, "volume", name)
		return nil
	}
	g.mu.Lock()
	w := g.volumes[name]
	if w == nil {
		g.mu.Unlock()
		return nil
	}
	if w.known.IsZero() {
		w.known = claim.Status.Capacity[v1.ResourceStorage]
	}
	s := growth.State{Claim: claim, Known: w.known, Failed: w.failed}
	g.mu.Unlock()
	if claim.Spec.VolumeName != name || !growth.Pending(claim, s.Known) {
		return nil
	}
	if s.Volume, err = g.m.claims.Volume(ctx, name); err == nil {
		err = checkBinding(s.Volume, claim.UID)
	}
	if err != nil {
		klog.V(2).ErrorS(err, "Could not look whether a volume has grown", "pod", klog.KObj(u.pod), "podUID", u.pod.UID, "volume", name)
		return nil
	}
	return g.take(ctx, u, s)
}

// atMount grows a volume that the pod is about to get, if it was enlarged. On an error the pod must
// not start with it yet (kubelet behaviour: an application that sees the old size may go by it).
func (g *grower) atMount(ctx context.Context, u user, pv *v1.PersistentVolume, claim *v1.PersistentVolumeClaim) error {
	if g == nil || g.growable(u, pv) == nil {
		return nil
	}
	s := growth.State{Claim: claim, Volume: pv, Mounting: true, ReadOnly: u.readOnly()}
	g.mu.Lock()
	if w := g.volumes[pv.Name]; w != nil {
		s.Failed = w.failed
	} else if !s.ReadOnly {
		w = g.entry(pv.Name)
		w.users[u.pod.UID], w.looked, w.known = u, g.now(), claim.Status.Capacity[v1.ResourceStorage]
	}
	g.mu.Unlock()
	if err := g.take(ctx, u, s); err != nil {
		return fmt.Errorf("MountVolume.Setup failed while expanding volume: %w", err)
	}
	return nil
}

// take does what is to be done about a volume.
func (g *grower) take(ctx context.Context, u user, s growth.State) error {
	step, pv := growth.Decide(s), s.Volume.Name
	switch {
	case step.Refused:
		text := fmt.Sprintf("MountVolume.NodeExpandVolume failed for volume %q requested read-only file system", pv)
		g.m.warn(u.pod, resizeRefused, text)
		g.Event(s.Claim, v1.EventTypeWarning, resizeRefused, text)
	case step.Done:
		g.note(pv, func(w *growing) { w.known = step.Size })
	case step.Grow:
		return g.grow(ctx, u, s, step)
	}
	return nil
}

func (g *grower) note(pv string, change func(*growing)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w := g.volumes[pv]; w != nil {
		change(w)
	}
}

func (g *grower) grow(ctx context.Context, u user, s growth.State, step growth.Step) error {
	pv, claim := s.Volume.Name, s.Claim
	k := g.growable(u, s.Volume)
	if k == nil {
		return nil
	}
	if step.Report && step.Recovery {
		var err error
		if claim, err = g.Claims.PatchStatus(ctx, claim, growth.Begun(claim)); err != nil {
			return fmt.Errorf("MountVolume.NodeExpandVolume failed to mark node expansion in progress: %w", err)
		}
	}
	klog.V(2).InfoS("A volume was enlarged", "pod", klog.KObj(u.pod), "podUID", u.pod.UID, "volume", pv, "size", step.Size.String())
	err := k.grow(ctx, step.Size.Value())
	switch {
	case err == nil:
	case errors.Is(err, csi.ErrNotPublished):
		return err
	case step.Optional && errors.Is(err, csi.ErrExpandUnsupported):
		g.note(pv, func(w *growing) { w.known, w.failed = step.Size, false })
		return nil
	default:
		return g.failure(ctx, u, pv, claim, step, err)
	}
	text := fmt.Sprintf("MountVolume.NodeExpandVolume succeeded for volume %q %s", pv, u.pod.Spec.NodeName)
	g.Normal(u.pod, resized, text)
	g.Event(claim, v1.EventTypeNormal, resized, text)
	if step.Report {
		err := g.patch(ctx, claim, func(c *v1.PersistentVolumeClaim) *v1.PersistentVolumeClaim { return growth.Finished(c, step.Size) })
		if err != nil {
			return fmt.Errorf("mountVolume.NodeExpandVolume update pvc status failed: %w", err)
		}
	}
	g.note(pv, func(w *growing) { w.known, w.failed = step.Size, false })
	return nil
}

// failure notes that a volume could not grow, and returns what remains of the error. A volume that
// the driver does not touch while it is in use stays as it is until no pod of this node has it.
func (g *grower) failure(ctx context.Context, u user, pv string, claim *v1.PersistentVolumeClaim, step growth.Step, cause error) error {
	final, inUse := !errors.Is(cause, csi.ErrUnfinished), errors.Is(cause, csi.ErrInUse)
	g.note(pv, func(w *growing) { w.failed, w.inUse = w.failed || final, w.inUse || inUse })
	if step.Recovery {
		infeasible := final && (errors.Is(cause, csi.ErrInfeasible) || step.Infeasible)
		err := g.patch(ctx, claim, func(c *v1.PersistentVolumeClaim) *v1.PersistentVolumeClaim {
			return growth.Failed(c, cause, infeasible, metav1.Now())
		})
		if err != nil {
			klog.ErrorS(err, "Could not say at a claim that its volume did not grow", "pod", klog.KObj(u.pod), "podUID", u.pod.UID, "volume", pv)
		}
	}
	if inUse {
		g.m.warn(u.pod, resizeFailed, fmt.Sprintf("NodeExpandVolume.NodeExpandVolume failed for volume %q : %v", pv, cause))
		return nil
	}
	return cause
}

// patch changes the claim's status, also if somebody else has changed it meanwhile.
func (g *grower) patch(ctx context.Context, claim *v1.PersistentVolumeClaim, change func(*v1.PersistentVolumeClaim) *v1.PersistentVolumeClaim) error {
	for range 5 {
		_, err := g.Claims.PatchStatus(ctx, claim, change(claim))
		if !apierrors.IsConflict(err) {
			return err
		}
		fresh, err := g.Claims.Look(ctx, claim.Namespace, claim.Name)
		if err != nil {
			return err
		}
		if fresh.UID != claim.UID {
			return errors.New("the claim is another one by now")
		}
		claim = fresh
	}
	return errors.New("the claim changes all the time")
}

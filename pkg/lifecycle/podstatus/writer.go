package podstatus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/retry"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// writers is how many statuses are written at a time, each for a different pod.
const writers = 8

// After a failure a status is tried again after retryFirst, doubling to retryMost.
const retryFirst, retryMost = 100 * time.Millisecond, 10 * time.Second

// WriterConfig is what a Writer is made of.
type WriterConfig struct {
	Client   kubernetes.Interface
	Statuses *Manager
	// Object returns the pod as the API server has it, according to the last watch
	// event: the pod itself, or the mirror pod of a static pod. ok is false when
	// there is none.
	Object  func(pod *v1.Pod) (object *v1.Pod, ok bool)
	Metrics prometheus.Registerer // nil: nothing is measured
	Journal *journal.Journal      // nil: nothing is noted
}

// Writer brings the statuses to the API server: it PATCHes what differs, one write
// at a time for a pod, and only the newest status. A pod that is deleted and has
// stopped is then removed from the API server. While the API server is away the
// Writer keeps trying; only the UIDs of pods are queued, not statuses.
type Writer struct {
	cfg   WriterConfig
	took  prometheus.Histogram
	queue workqueue.TypedRateLimitingInterface[types.UID]

	mu      sync.Mutex
	written map[types.UID]object // what the API server answered to our last write
}

// object is the state of a pod at the API server.
type object struct {
	uid     types.UID
	version string
	status  v1.PodStatus
}

// NewWriter returns a Writer that is notified of every change in cfg.Statuses.
func NewWriter(cfg WriterConfig) (*Writer, error) {
	if cfg.Client == nil || cfg.Statuses == nil || cfg.Object == nil {
		return nil, errors.New("status writer: no Client, Statuses or Object")
	}
	set := metricset.New(cfg.Metrics)
	w := &Writer{cfg: cfg, written: map[types.UID]object{}, took: set.Histogram("kubelet_pod_status_sync_duration_seconds",
		"How long it took from the first change of a pod's status until the API server had it", []float64{0.010, 0.050, 0.100, 0.500, 1, 5, 10, 20, 30, 45, 60})}
	if err := set.Err(); err != nil {
		return nil, fmt.Errorf("status writer: %w", err)
	}
	w.queue = workqueue.NewTypedRateLimitingQueue(retry.Limiter[types.UID](retryFirst, retryMost))
	cfg.Statuses.subscribe(w.Check)
	return w, nil
}

// Check queues a pod, whose status is then compared with the API server's: either
// may have changed. uid is that of the static pod, not of its mirror.
func (w *Writer) Check(uid types.UID) { w.queue.Add(uid) }

// Run writes until ctx ends.
func (w *Writer) Run(ctx context.Context) error {
	retry.Serve(ctx, w.queue, writers, w.serve)
	return nil
}

func (w *Writer) serve(ctx context.Context, uid types.UID) {
	call, cancel := context.WithTimeout(ctx, retry.CallTimeout)
	defer cancel()
	err := w.sync(call, uid)
	if err == nil {
		w.queue.Forget(uid)
		return
	}
	if ctx.Err() != nil {
		return
	}
	if w.queue.NumRequeues(uid) == 0 {
		klog.ErrorS(err, "Could not write a pod's status, trying again", "podUID", uid)
	}
	w.queue.AddRateLimited(uid)
}

// sync brings one pod's status to the API server, if that is needed.
func (w *Writer) sync(ctx context.Context, uid types.UID) error {
	e, ok := w.cfg.Statuses.entry(uid)
	if !ok {
		w.forget(uid)
		return nil
	}
	seen, ok := w.cfg.Object(e.pod)
	if !ok {
		return nil // a mirror pod that is not made yet, or a pod that is gone
	}
	base := w.newest(uid, seen)
	merged := Merge(e.pod, base.status, e.status)
	if !equality.Semantic.DeepEqual(base.status, merged) {
		patch, err := statusPatch(base.uid, base.status, merged)
		if err != nil {
			return fmt.Errorf("compare the status of pod %s: %w", klog.KObj(seen), err)
		}
		span := w.cfg.Journal.Begin(journal.Event{
			Kind: journal.StatusWrite, Pod: uid, Reason: string(merged.Phase), Cause: w.cfg.Journal.Newest(journal.Status, uid),
		})
		now, err := w.cfg.Client.CoreV1().Pods(seen.Namespace).Patch(ctx, seen.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		span.End(err)
		switch {
		case gone(err):
			// The watch will tell us of its removal.
			klog.V(3).InfoS("The pod of a status is gone from the API server", "pod", klog.KObj(seen), "podUID", uid)
			w.forget(uid)
			return nil
		case err != nil:
			return fmt.Errorf("write the status of pod %s: %w", klog.KObj(seen), err)
		}
		klog.V(3).InfoS("Wrote a pod's status", "pod", klog.KObj(seen), "podUID", uid, "patch", string(patch))
		w.note(uid, now)
	}
	if !e.since.IsZero() {
		if since := w.cfg.Statuses.wrote(uid, e); !since.IsZero() {
			w.took.Observe(time.Since(since).Seconds())
		}
	}
	if e.finished && seen.DeletionTimestamp != nil && seen.UID == uid {
		return w.remove(ctx, seen)
	}
	return nil
}

// remove removes a deleted pod from the API server, now that nothing of it runs
// here.
func (w *Writer) remove(ctx context.Context, pod *v1.Pod) error {
	now := int64(0)
	err := w.cfg.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if apierrors.IsConflict(err) { // the name is another pod's by now, or an admission webhook says so
		now, getErr := w.cfg.Client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(getErr) || getErr == nil && now.UID != pod.UID {
			return nil
		}
	}
	if err != nil && !gone(err) {
		return fmt.Errorf("remove the deleted pod %s from the API server: %w", klog.KObj(pod), err)
	}
	klog.V(2).InfoS("Removed a deleted pod from the API server", "pod", klog.KObj(pod), "podUID", pod.UID)
	return nil
}

// gone reports whether err means that the object with that UID no longer exists. If
// another object has its name, a patch with the old UID is invalid, since it would change an
// immutable field. A patch that conflicts has met other writers more often than the API server
// tries, and is to be tried again.
func gone(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsInvalid(err) && aboutUID(err)
}

// aboutUID reports whether the API server refused a change because of its UID.
func aboutUID(err error) bool {
	var s apierrors.APIStatus
	return errors.As(err, &s) && s.Status().Details != nil && slices.ContainsFunc(s.Status().Details.Causes,
		func(c metav1.StatusCause) bool { return c.Field == "metadata.uid" })
}

// newest returns the API server's newest known state of the pod: from the watch, or
// from the answer to our last write if that is newer.
func (w *Writer) newest(uid types.UID, seen *v1.Pod) object {
	w.mu.Lock()
	defer w.mu.Unlock()
	if own, ok := w.written[uid]; ok && own.uid == seen.UID {
		if c, err := resourceversion.CompareResourceVersion(seen.ResourceVersion, own.version); err == nil && c < 0 {
			return own
		}
		delete(w.written, uid)
	}
	return object{uid: seen.UID, version: seen.ResourceVersion, status: seen.Status}
}

func (w *Writer) note(uid types.UID, now *v1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written[uid] = object{uid: now.UID, version: now.ResourceVersion, status: now.Status}
}

func (w *Writer) forget(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.written, uid)
}

// statusPatch returns the strategic merge patch from one status to another for the
// pod with that UID: for another pod that has taken its name the API server refuses
// the patch.
func statusPatch(uid types.UID, from, to v1.PodStatus) ([]byte, error) {
	old, err := json.Marshal(v1.Pod{Status: from})
	if err != nil {
		return nil, err
	}
	now, err := json.Marshal(v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Status: to})
	if err != nil {
		return nil, err
	}
	return strategicpatch.CreateTwoWayMergePatch(old, now, v1.Pod{})
}

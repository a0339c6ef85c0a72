// Package mirror keeps a mirror pod at the API server for each static pod of this
// node, so that the cluster sees what runs here and takes it into account. A mirror pod
// is only an image: it is never started, and removing it stops nothing.
//
//	static pods ─┐
//	             ├─▶ decide (pure) ─▶ create · delete
//	mirror pods ─┘
package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/retry"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// After a failure a mirror pod is tried again after retryFirst, doubling to retryMost.
const retryFirst, retryMost = 500 * time.Millisecond, 30 * time.Second

// Pods gives the pods of this node and the mirror pods among them.
type Pods interface {
	ByName(namespace, name string) (*v1.Pod, bool)
	MirrorByName(namespace, name string) (*v1.Pod, bool)
}

// Config is what a Manager is made of.
type Config struct {
	Client kubernetes.Interface
	Pods   Pods
	Node   func() *v1.Node // nil result: not known yet
	// Ready reports whether every source has spoken. Before that a mirror pod without
	// a static pod stays: its static pod may be yet to come.
	Ready func() bool
	// Failed reports that a static pod cannot be shown in the cluster.
	Failed func(pod *v1.Pod, err error)
}

// Manager makes and removes mirror pods. Run it once.
type Manager struct {
	cfg   Config
	queue workqueue.TypedRateLimitingInterface[types.NamespacedName]

	mu   sync.Mutex
	said map[types.NamespacedName]string // the failure that was reported, until it is over
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Client == nil || cfg.Pods == nil || cfg.Node == nil || cfg.Ready == nil || cfg.Failed == nil {
		return nil, errors.New("mirror: no Client, Pods, Node, Ready or Failed")
	}
	return &Manager{cfg: cfg, queue: workqueue.NewTypedRateLimitingQueue(retry.Limiter[types.NamespacedName](retryFirst, retryMost)), said: map[types.NamespacedName]string{}}, nil
}

// Check has the mirror pod of that name compared with the static pod: either may
// have changed. It returns at once.
func (m *Manager) Check(name types.NamespacedName) { m.queue.Add(name) }

// Run makes and removes mirror pods until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	retry.Serve(ctx, m.queue, 2, m.serve)
	return nil
}

func (m *Manager) serve(ctx context.Context, name types.NamespacedName) {
	call, cancel := context.WithTimeout(ctx, retry.CallTimeout)
	defer cancel()
	err := m.sync(call, name)
	switch {
	case err == nil:
		m.queue.Forget(name)
		m.news(name, "")
		return
	case ctx.Err() != nil:
		return
	case errors.Is(err, errNotYet):
	case m.news(name, err.Error()):
		klog.ErrorS(err, "Could not bring a mirror pod up to date, trying again", "pod", name)
		if pod, ok := m.cfg.Pods.ByName(name.Namespace, name.Name); ok {
			m.cfg.Failed(pod, err)
		}
	}
	m.queue.AddRateLimited(name)
}

// news notes the failure of a name, "" for none, and reports whether it differs
// from the one before.
func (m *Manager) news(name types.NamespacedName, failure string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.said[name]
	m.said[name] = failure
	if failure == "" {
		delete(m.said, name)
	}
	return failure != before
}

// errNotYet means that something has to wait for something else that is on its way.
var errNotYet = errors.New("not yet")

func (m *Manager) sync(ctx context.Context, name types.NamespacedName) error {
	pod, _ := m.cfg.Pods.ByName(name.Namespace, name.Name)
	mirror, _ := m.cfg.Pods.MirrorByName(name.Namespace, name.Name)
	switch decide(pod, mirror) {
	case create:
		node := m.cfg.Node()
		if node == nil {
			return errNotYet
		}
		return m.create(ctx, pod, node)
	case replace:
		if err := m.delete(ctx, mirror); err != nil {
			return err
		}
		return nil // the watch reports when it is gone
	case remove:
		if !m.cfg.Ready() {
			return errNotYet
		}
		return m.delete(ctx, mirror)
	}
	return nil
}

type action int

const (
	nothing action = iota
	create
	replace // delete, and create again once it is gone
	remove
)

// decide returns what the mirror of a static pod needs. pod may also be a pod of
// the API server, or nil; mirror may be nil.
func decide(pod, mirror *v1.Pod) action {
	static := pod != nil && pods.IsStatic(pod)
	switch {
	case static && mirror == nil:
		return create
	case static && (mirror.DeletionTimestamp != nil || !Shows(mirror, pod)):
		return replace
	case !static && mirror != nil:
		return remove
	}
	return nothing
}

// Shows reports whether a mirror pod shows exactly this static pod, not one that had
// its name before.
func Shows(mirror, pod *v1.Pod) bool {
	return mirror.Annotations[pods.AnnotationConfigMirror] == pod.Annotations[pods.AnnotationConfigHash]
}

func (m *Manager) create(ctx context.Context, pod *v1.Pod, node *v1.Node) error {
	_, err := m.cfg.Client.CoreV1().Pods(pod.Namespace).Create(ctx, Of(pod, node), metav1.CreateOptions{})
	switch {
	case err == nil:
		klog.V(2).InfoS("Made the mirror pod of a static pod", "pod", klog.KObj(pod), "podUID", pod.UID)
		return nil
	case apierrors.IsAlreadyExists(err):
		// Ours, and not seen yet; or somebody else's pod of that name, which has to go
		// first.
		return errNotYet
	}
	return fmt.Errorf("create the mirror pod of static pod %s: %w", klog.KObj(pod), err)
}

// delete removes a mirror pod at once: it has nothing to stop.
func (m *Manager) delete(ctx context.Context, mirror *v1.Pod) error {
	err := m.cfg.Client.CoreV1().Pods(mirror.Namespace).Delete(ctx, mirror.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0), Preconditions: &metav1.Preconditions{UID: &mirror.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("remove mirror pod %s: %w", klog.KObj(mirror), err)
	}
	klog.V(2).InfoS("Removed a mirror pod", "pod", klog.KObj(mirror), "podUID", mirror.UID)
	return nil
}

// Of returns the mirror pod of a static pod: the same in all that the cluster sees,
// but an object of its own, owned by the node (the NodeRestriction plug-in requires
// the owner).
func Of(pod *v1.Pod, node *v1.Node) *v1.Pod {
	mirror := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels, Annotations: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID, Controller: ptr.To(true)}},
		},
		Spec: *pod.Spec.DeepCopy(),
	}
	for k, v := range pod.Annotations {
		mirror.Annotations[k] = v
	}
	mirror.Annotations[pods.AnnotationConfigMirror] = pod.Annotations[pods.AnnotationConfigHash]
	return mirror
}

package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	mount "k8s.io/mount-utils"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/keylock"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// Objects gives the API objects that volumes are made of. For a missing object the
// error satisfies apierrors.IsNotFound. It is asked at every SetUp and should
// answer from memory.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*v1.Secret, error)
	// Token returns a token of the pod's service account that is bound to the pod.
	// Audience "" is the API server's own, 0 seconds means an hour.
	Token(ctx context.Context, pod *v1.Pod, audience string, expirationSeconds int64) (string, error)
	// TrustAnchors returns the certificates of ClusterTrustBundles, in PEM.
	TrustAnchors(ctx context.Context, p *v1.ClusterTrustBundleProjection) ([]byte, error)
}

// Config is what a Manager is built from.
type Config struct {
	// Root holds the pods' directories; "" is DefaultRoot.
	Root string
	// Objects gives ConfigMaps, Secrets and tokens; nil refuses volumes made of them.
	Objects Objects
	// Claims gives persistent volumes; nil refuses claims.
	Claims Claims
	// CSI mounts volumes of CSI drivers; nil refuses them.
	CSI CSI
	// NodeLabels are compared with the node affinity of persistent volumes.
	NodeLabels func() map[string]string
	// Allocatable of the node bounds emptyDirs in memory, and answers resourceFieldRefs
	// of containers without limits; if nil, neither is known.
	Allocatable func() v1.ResourceList
	// Warn is called, with the fields of a kubelet event, for a volume that could not
	// be brought up to date and keeps its content; nil: nobody is told.
	Warn func(pod *v1.Pod, reason, message string)
	// Normal is the same for what went well; nil: nobody is told.
	Normal func(pod *v1.Pod, reason, message string)
	// VolumeEvent records something about a persistent volume; nil: nobody is told.
	VolumeEvent func(pv *v1.PersistentVolume, eventType, reason, message string)
	// Growth is what enlarging volumes needs of the API server; nil: volumes keep their size, as on
	// a standalone node, where nobody enlarges them.
	Growth *Growth
	// Timeout of one SetUp or TearDown, after which the error says what hangs; 0 is 2
	// min.
	Timeout time.Duration
	// Journal notes what becomes of single volumes; nil: nobody does.
	Journal *journal.Journal
	// Metrics is where volumes are counted, and Pods returns those that want some; either may be nil.
	Metrics prometheus.Registerer
	Pods    func() []*v1.Pod
}

const defaultTimeout = 2 * time.Minute

// Manager sets up and tears down the volumes of all pods. Safe for concurrent use.
type Manager struct {
	layout      layout
	objects     Objects
	claims      Claims
	csi         CSI
	nodeLabels  func() map[string]string
	allocatable func() v1.ResourceList
	warn        func(pod *v1.Pod, reason, message string)
	normal      func(pod *v1.Pod, reason, message string)
	volumeEvent func(pv *v1.PersistentVolume, eventType, reason, message string)
	timeout     time.Duration
	serial      serial
	devices     keylock.Locks          // by source: disks and directories that pods share
	mounter     func() mount.Interface // asks the host once what its mount program supports
	lookPath    func(program string) (string, error)
	command     func(ctx context.Context, name string, args ...string) (output string, err error)
	growth      *grower // nil if there is no Growth
	disks       string  // where udev links to disks by their paths
	fileSystems diskusage.FileSystems
	metrics     metrics
	journal     *journal.Journal

	mu       sync.Mutex
	mounted  map[types.UID]mounted
	live     map[types.UID]bool                            // set up and not yet torn down by this process
	stamps   map[types.UID]map[string]stamp                // of those: what was last written, by volume
	bindings map[types.UID]map[string]*v1.PersistentVolume // of those: what claims are bound to, by volume
	ungrown  map[types.UID]map[string]bool                 // of those: volumes that are mounted but have yet to grow
	unread   map[types.UID]bool                            // what earlier agents have recorded of their claims could not be read yet
}

// New returns a Manager and makes the directory of the pods, which only root and
// its group may enter.
func New(c Config) (*Manager, error) {
	if c.Root == "" {
		c.Root = DefaultRoot
	}
	if !filepath.IsAbs(c.Root) {
		return nil, fmt.Errorf("volume manager: root %q is not an absolute path", c.Root)
	}
	// The kernel's mount table names real paths: compare with those.
	if err := ownDir(filepath.Join(c.Root, "pods"), "The directories of all pods. Restart them if they miss something."); err != nil {
		return nil, fmt.Errorf("volume manager: %w", err)
	}
	root, err := filepath.EvalSymlinks(c.Root)
	if err != nil {
		return nil, fmt.Errorf("volume manager: %w", err)
	}
	m := &Manager{
		layout:      layout{root: root},
		objects:     c.Objects,
		claims:      c.Claims,
		csi:         c.CSI,
		nodeLabels:  c.NodeLabels,
		lookPath:    lookPath,
		command:     command,
		disks:       "/dev/disk/by-path",
		mounter:     sync.OnceValue(func() mount.Interface { return mount.New("") }),
		bindings:    map[types.UID]map[string]*v1.PersistentVolume{},
		unread:      map[types.UID]bool{},
		ungrown:     map[types.UID]map[string]bool{},
		allocatable: c.Allocatable,
		warn:        c.Warn,
		normal:      c.Normal,
		volumeEvent: c.VolumeEvent,
		timeout:     c.Timeout,
		journal:     c.Journal,
		serial:      serial{running: map[types.UID]*work{}},
		live:        map[types.UID]bool{},
		mounted:     map[types.UID]mounted{},
		stamps:      map[types.UID]map[string]stamp{},
	}
	if m.metrics, err = newMetrics(c.Metrics, m, c.Pods); err != nil {
		return nil, err
	}
	if m.timeout == 0 {
		m.timeout = defaultTimeout
	}
	if m.warn == nil {
		m.warn = func(*v1.Pod, string, string) {}
	}
	if m.normal == nil {
		m.normal = func(*v1.Pod, string, string) {}
	}
	if m.nodeLabels == nil {
		m.nodeLabels = func() map[string]string { return nil }
	}
	if m.allocatable == nil {
		m.allocatable = func() v1.ResourceList { return nil }
	}
	if c.Growth != nil {
		m.growth = newGrower(m, *c.Growth)
	}
	if err := m.loadBindings(); err != nil {
		return nil, fmt.Errorf("volume manager: %w", err)
	}
	return m, nil
}

// SetUp makes every volume of the pod ready, or finds it ready, and brings the
// content of configMap, secret, downwardAPI and projected volumes up to date. It
// tries all volumes and returns what failed, in the kubelet's words. Idempotent.
func (m *Manager) SetUp(ctx context.Context, pod *v1.Pod) error {
	dir, err := m.layout.pod(pod.UID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, errors.New("timed out waiting for the condition"))
	defer cancel()
	return m.serial.do(ctx, pod.UID, func(w *work) error {
		m.setLive(pod.UID, true)
		if err := m.own(pod.UID); err != nil {
			return err
		}
		for _, d := range []string{dir, filepath.Join(dir, volumesDir)} {
			if err := ownDir(d, "The volumes of a pod. Delete the pod if it misses something."); err != nil {
				return err
			}
		}
		var failed []error
		room := maxContent
		for i := range pod.Spec.Volumes {
			v := &pod.Spec.Volumes[i]
			w.at(fmt.Sprintf("MountVolume.SetUp for volume %q", v.Name))
			var device *MapError
			switch err := m.setUpOne(ctx, pod, v, &room); {
			case errors.As(err, &device):
				failed = append(failed, err)
			case err != nil:
				failed = append(failed, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.Name, err))
			}
		}
		w.at("")
		return errors.Join(failed...)
	})
}

// ownDir makes a directory of ours, which root's group may read; what stands in its place is
// moved aside.
func ownDir(dir, lost string) error {
	if err := durable.MakeWay(dir, lost); err != nil && !errors.Is(err, durable.ErrDamaged) {
		return err
	}
	return os.MkdirAll(dir, 0o750)
}

func (m *Manager) setUpOne(ctx context.Context, pod *v1.Pod, v *v1.Volume, room *int) error {
	k, err := m.kind(pod, v)
	if err != nil {
		return err
	}
	if w, ok := k.(*writtenFiles); ok {
		w.from.room = room
	}
	klog.V(4).InfoS("Setting up volume", "pod", klog.KObj(pod), "podUID", pod.UID, "volume", v.Name)
	began := time.Now()
	err = k.setUp(ctx)
	m.observe(ctx, pod, v, k, time.Since(began), err)
	return err
}

// Path returns where the named volume of the pod is on the host once SetUp has
// succeeded. It does not look at the disk.
func (m *Manager) Path(pod *v1.Pod, name string) (Path, error) {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Name == name {
			k, err := m.kind(pod, v)
			if err != nil {
				return Path{}, err
			}
			p := k.path()
			if p.Host == "" && v.Image == nil {
				return Path{}, errNotSetUp
			}
			return p, nil
		}
	}
	return Path{}, fmt.Errorf("the pod has no volume %q", name)
}

// TearDown unmounts and removes the volumes of a pod, including emptyDir data. What
// the pod's dead containers still refer to (termination logs, etc-hosts) stays
// until Orphans finds the pod gone. Idempotent; succeeds for an unknown pod.
func (m *Manager) TearDown(ctx context.Context, uid types.UID) error {
	dir, err := m.layout.pod(uid)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, errors.New("timed out waiting for the condition"))
	defer cancel()
	return m.serial.do(ctx, uid, func(w *work) error {
		began := time.Now()
		err := m.tearDownCSI(ctx, dir, w.at)
		if err == nil {
			err = m.clear(ctx, w, dir, subPathsDir, volumesDir, claimsDir)
		}
		m.observeEnd(uid, time.Since(began), err)
		if err != nil {
			return err
		}
		m.setLive(uid, false)
		if err := m.releaseDisks(ctx); err != nil {
			// The pod has nothing more to wait for; housekeeping tries again.
			klog.ErrorS(err, "Could not release the disks of a pod", "podUID", uid)
		}
		return nil
	})
}

// clear unmounts everything below dir and then removes the named entries of it.
func (m *Manager) clear(ctx context.Context, w *work, dir string, names ...string) error {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := unmountBelow(dir, w.at); err != nil {
		return err
	}
	for _, name := range names {
		w.at("removing " + filepath.Join(dir, name))
		if err := tree.Remove(ctx, dir, name); err != nil {
			return err
		}
	}
	w.at("")
	return nil
}

func (m *Manager) setLive(uid types.UID, live bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if live {
		m.live[uid] = true
	} else {
		delete(m.live, uid)
		delete(m.stamps, uid)
		delete(m.bindings, uid)
		delete(m.unread, uid)
		delete(m.ungrown, uid)
		m.growth.forget(uid)
	}
}

// Run enlarges volumes that pods have, until ctx ends. It is called once.
func (m *Manager) Run(ctx context.Context) error { return m.growth.run(ctx) }

func (m *Manager) isLive(uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live[uid]
}

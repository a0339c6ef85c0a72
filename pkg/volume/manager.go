package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// Objects gives the API objects that volumes are made of. A missing object is an
// error for which apierrors.IsNotFound holds. It is asked at every SetUp and is
// expected to answer from memory.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*v1.Secret, error)
}

// Config is what a Manager is built from.
type Config struct {
	// Root holds the pods' directories; "" is DefaultRoot.
	Root string
	// Objects gives ConfigMaps and Secrets; nil refuses volumes made of them.
	Objects Objects
	// Allocatable of the node bounds emptyDirs in memory and answers
	// resourceFieldRefs of containers without limits; nil bounds and knows nothing.
	Allocatable func() v1.ResourceList
	// Timeout of one SetUp or TearDown, after which it says what hangs; 0 is 2 min.
	Timeout time.Duration
}

const defaultTimeout = 2 * time.Minute

// Manager sets up and tears down the volumes of all pods. Safe for concurrent use.
type Manager struct {
	layout      layout
	objects     Objects
	allocatable func() v1.ResourceList
	timeout     time.Duration
	serial      serial

	mu   sync.Mutex
	live map[types.UID]bool // set up and not yet torn down by this process
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
	if err := os.MkdirAll(filepath.Join(c.Root, "pods"), 0o750); err != nil {
		return nil, fmt.Errorf("volume manager: %w", err)
	}
	root, err := filepath.EvalSymlinks(c.Root)
	if err != nil {
		return nil, fmt.Errorf("volume manager: %w", err)
	}
	m := &Manager{
		layout:      layout{root: root},
		objects:     c.Objects,
		allocatable: c.Allocatable,
		timeout:     c.Timeout,
		serial:      serial{running: map[types.UID]*work{}},
		live:        map[types.UID]bool{},
	}
	if m.timeout == 0 {
		m.timeout = defaultTimeout
	}
	if m.allocatable == nil {
		m.allocatable = func() v1.ResourceList { return nil }
	}
	return m, nil
}

// SetUp makes every volume of the pod ready, or finds it so, and brings the
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
		if err := os.MkdirAll(filepath.Join(dir, volumesDir), 0o750); err != nil {
			return err
		}
		var failed []error
		for i := range pod.Spec.Volumes {
			v := &pod.Spec.Volumes[i]
			w.at(fmt.Sprintf("MountVolume.SetUp for volume %q", v.Name))
			if err := m.setUpOne(ctx, pod, v); err != nil {
				failed = append(failed, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.Name, err))
			}
		}
		w.at("")
		return errors.Join(failed...)
	})
}

func (m *Manager) setUpOne(ctx context.Context, pod *v1.Pod, v *v1.Volume) error {
	k, err := m.kind(pod, v)
	if err != nil {
		return err
	}
	klog.V(4).InfoS("Setting up volume", "pod", klog.KObj(pod), "podUID", pod.UID, "volume", v.Name)
	return k.setUp(ctx)
}

// Path returns where the named volume of the pod lies on the host once SetUp has
// succeeded. It looks at nothing on disk.
func (m *Manager) Path(pod *v1.Pod, name string) (Path, error) {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Name == name {
			k, err := m.kind(pod, v)
			if err != nil {
				return Path{}, err
			}
			return k.path(), nil
		}
	}
	return Path{}, fmt.Errorf("the pod has no volume %q", name)
}

// TearDown unmounts and removes the volumes of a pod, emptyDir data included.
// What the pod's dead containers still refer to (termination logs, etc-hosts)
// stays until Orphans finds the pod gone. Idempotent; succeeds for an unknown pod.
func (m *Manager) TearDown(ctx context.Context, uid types.UID) error {
	dir, err := m.layout.pod(uid)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, errors.New("timed out waiting for the condition"))
	defer cancel()
	return m.serial.do(ctx, uid, func(w *work) error {
		if err := m.clear(w, dir, subPathsDir, volumesDir); err != nil {
			return err
		}
		m.setLive(uid, false)
		return nil
	})
}

// clear unmounts all that is mounted below dir and then removes the named
// entries of it.
func (m *Manager) clear(w *work, dir string, names ...string) error {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := unmountBelow(dir, w.at); err != nil {
		return err
	}
	for _, name := range names {
		w.at("removing " + filepath.Join(dir, name))
		if err := removeTree(dir, name); err != nil {
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
	}
}

func (m *Manager) isLive(uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live[uid]
}

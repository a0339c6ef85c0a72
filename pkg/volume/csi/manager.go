package csi

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/keylock"
)

// Config is what a Manager is made of.
type Config struct {
	Root     string // the kubelet's directory, without links
	NodeName string
	// Client is nil on a standalone node: drivers are announced to nobody there, and
	// standalone stands in for every CSIDriver.
	Client kubernetes.Interface
	// Node is the node object, nil until it is known; the CSINode belongs to it. Needed
	// with a Client.
	Node func() *v1.Node
	// Secret returns a secret that a volume refers to.
	Secret func(ctx context.Context, namespace, name string) (*v1.Secret, error)
	// Token returns a token of a pod's service account; nil refuses drivers that want one.
	Token func(ctx context.Context, pod *v1.Pod, audience string, seconds int64) (authentication.TokenRequestStatus, error)
	// Owns reports whether a pod's directory is ours, see volume.Owns; nil: all are. Files
	// of other kubelets are left as they are.
	Owns func(types.UID) bool
	// Left is told by New which volumes earlier agents have left in use; nil: nobody is told.
	Left func([]v1.UniqueVolumeName)
	// Use has the volume reported in the node's volumesInUse and returns once it is;
	// Release removes it from there. Both may be nil.
	Use     func(context.Context, v1.UniqueVolumeName) error
	Release func(v1.UniqueVolumeName)
	// Registered is called when a driver has registered, since pods may be waiting for
	// it. It must not block; nil: nobody is told.
	Registered func()
	// Changed is called when what Problems returns has changed. It must not block; nil: nobody is told.
	Changed func()
	Metrics prometheus.Registerer // nil: calls are not measured
}

// callTimeout bounds one call of a driver, as in the kubelet.
const callTimeout = 2 * time.Minute

// Manager knows the node's drivers and mounts volumes with them. Safe for
// concurrent use.
type Manager struct {
	cfg   Config
	locks keylock.Locks // by volume
	calls *prometheus.HistogramVec

	limits   limits
	patience time.Duration // with a node that has no room for another attachment

	mu      sync.Mutex
	drivers map[string]*driver
	infos   map[string]info
	problem string // "": none

	settled chan struct{}

	object sync.Mutex // held while the CSINode is changed
}

// info is what the API server says about a driver.
type info struct {
	driver *storage.CSIDriver
	asked  time.Time
}

// infoTTL is how long a CSIDriver is trusted: hardly anything in it can change.
const infoTTL = time.Minute

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	switch {
	case !filepath.IsAbs(cfg.Root):
		return nil, fmt.Errorf("csi: root %q is not an absolute path", cfg.Root)
	case cfg.NodeName == "", cfg.Secret == nil, cfg.Client != nil && cfg.Node == nil:
		return nil, errors.New("csi: no NodeName, Secret or Node")
	}
	root, err := filepath.EvalSymlinks(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("csi: %w", err)
	}
	cfg.Root = root
	if cfg.Owns == nil {
		cfg.Owns = func(types.UID) bool { return true }
	}
	if cfg.Use == nil {
		cfg.Use = func(context.Context, v1.UniqueVolumeName) error { return nil }
	}
	if cfg.Release == nil {
		cfg.Release = func(v1.UniqueVolumeName) {}
	}
	if cfg.Registered == nil {
		cfg.Registered = func() {}
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	calls, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, calls: calls, settled: make(chan struct{}), drivers: map[string]*driver{}, infos: map[string]info{}, patience: exhaustedPatience}
	if cfg.Client != nil {
		m.problem = "CSINode is not yet initialized"
	}
	if cfg.Left != nil {
		cfg.Left(m.InUse())
	}
	return m, nil
}

// driver returns a registered driver, or an error in the kubelet's words.
func (m *Manager) driver(name string) (*driver, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.drivers[name]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("driver name %s not found in the list of registered CSI drivers", name)
}

// Known reports whether a driver of that name has registered.
func (m *Manager) Known(driver string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.drivers[driver] != nil
}

// standalone is used as every driver's CSIDriver on a standalone node. Nobody could
// attach a volume there; a driver that needs attaching fails with its own error.
var standalone = &storage.CSIDriver{Spec: storage.CSIDriverSpec{
	AttachRequired: new(bool), VolumeLifecycleModes: []storage.VolumeLifecycleMode{storage.VolumeLifecyclePersistent},
}}

// info returns the CSIDriver object, nil if there is none. While the API server is
// away, the last known one is used.
func (m *Manager) info(ctx context.Context, name string) (*storage.CSIDriver, error) {
	if m.cfg.Client == nil {
		return standalone, nil
	}
	m.mu.Lock()
	known := m.infos[name]
	m.mu.Unlock()
	if known.driver != nil && time.Since(known.asked) < infoTTL {
		return known.driver, nil
	}
	o, err := m.cfg.Client.StorageV1().CSIDrivers().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		o = nil
	case err != nil && known.driver != nil:
		return known.driver, nil
	case err != nil:
		return nil, fmt.Errorf("look up CSIDriver %s: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.infos[name] = info{o, time.Now()}
	return o, nil
}

// secret returns the content of a secret that a volume refers to.
func (m *Manager) secret(ctx context.Context, ref *v1.SecretReference) (map[string]string, error) {
	if ref == nil {
		return nil, nil
	}
	s, err := m.cfg.Secret(ctx, ref.Namespace, ref.Name)
	if err != nil {
		return nil, err
	}
	content := make(map[string]string, len(s.Data))
	for k, v := range s.Data {
		content[k] = string(v)
	}
	return content, nil
}

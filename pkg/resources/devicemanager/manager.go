package devicemanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/devicemanager/checkpoint"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// Dir is the directory of the device plug-ins' sockets below the kubelet's root. The kubelet uses
// /var/lib/kubelet/device-plugins whatever its root is; here two agents with roots of their own do
// not take each other's plug-ins away.
const Dir = "device-plugins"

// Config is what a Manager is made of; Root, Gone and State are required.
type Config struct {
	Root string // the kubelet's directory
	// Nodes are the machine's NUMA nodes, if the topology manager compares them.
	Nodes numa.Set
	// Gone reports whether nobody wants a pod any more: its devices are promised to others.
	Gone func(types.UID) bool
	// State reports whether any container of a pod has ever been made, and whether one runs.
	State func(types.UID) (begun, running bool)
	// Changed is called when Resources may have changed; Wake with the pods that are to be looked at: their
	// devices' health has changed, or what they wait for may be there. Neither may block; nil: nobody is told.
	Changed func()
	Wake    func([]types.UID)
	Metrics prometheus.Registerer // nil: none
	Clock   clock.WithTicker      // nil: the real one
}

// Manager knows the node's device plug-ins and which container has which of their devices. Safe for
// concurrent use.
type Manager struct {
	cfg     Config
	dir     string
	fresh   bool // there was no checkpoint
	metrics metrics
	wait    sync.WaitGroup // of goroutines that plug-ins have, while Run runs
	due     chan struct{}  // has a token when a plug-in has gone

	mu     sync.Mutex
	offers offers
	grants grants
	saved  string // the resources in the checkpoint
}

const lost = "Which containers have which devices. Pods that run keep theirs, but these may be given to others as well, until the pods have ended: delete the pods that have devices, or restart them one by one."

// New continues with the checkpoint of an earlier agent or kubelet, if there is one.
func New(cfg Config) (*Manager, error) {
	if !filepath.IsAbs(cfg.Root) || cfg.Gone == nil || cfg.State == nil {
		return nil, errors.New("devicemanager: no Root, Gone or State")
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	if cfg.Wake == nil {
		cfg.Wake = func([]types.UID) {}
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	m := &Manager{cfg: cfg, dir: filepath.Join(cfg.Root, Dir), due: make(chan struct{}, 1), offers: offers{}, grants: grants{}}
	var err error
	if m.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	if err := durable.MakeWay(m.dir, lost); err != nil && !errors.Is(err, durable.ErrDamaged) {
		return nil, fmt.Errorf("directory of device plug-ins: %w", err)
	}
	file := filepath.Join(m.dir, checkpoint.FileName)
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		m.fresh = true
	}
	var registered []string
	err = durable.Load(file, lost, func(text []byte) (err error) {
		m.grants, registered, err = decode(text)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.grants = grants{}
	case err != nil:
		return nil, fmt.Errorf("read which containers have which devices: %w", err)
	}
	for _, resource := range registered {
		if checkName(resource) == nil {
			m.offers[resource] = &offer{gone: cfg.Clock.Now(), early: true}
		}
	}
	m.saved = names(m.offers)
	return m, nil
}

func names(all offers) string { return fmt.Sprint(slices.Sorted(maps.Keys(all.registered()))) }

// put makes these grants the manager's, once they are on disk. It is called with the lock held.
func (m *Manager) put(g grants) error {
	text, err := g.encode(m.offers.registered())
	if err == nil {
		err = durable.Write(filepath.Join(m.dir, checkpoint.FileName), text)
	}
	if err != nil {
		return fmt.Errorf("write which containers have which devices: %w", err)
	}
	m.grants, m.saved = g, names(m.offers)
	return nil
}

// saveResources writes the checkpoint anew if other resources are registered than it says. It is called with
// the lock held.
func (m *Manager) saveResources() {
	if names(m.offers) == m.saved {
		return
	}
	if err := m.put(m.grants); err != nil {
		klog.ErrorS(err, "Could not put on record which device plug-ins there are: after a restart the node would have their resources only once they are back")
	}
}

// Release takes back the devices of a pod that has nothing running any more. Idempotent.
func (m *Manager) Release(uid types.UID) error {
	return m.release(func(u types.UID) bool { return u == uid })
}

// Orphans takes back the devices of pods that are gone.
func (m *Manager) Orphans(gone func(types.UID) bool) error { return m.release(gone) }

func (m *Manager) release(gone func(types.UID) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.grants.without(gone)
	if len(next) == len(m.grants) {
		return nil
	}
	waiting := m.promised()
	if err := m.put(next); err != nil {
		return err
	}
	m.cfg.Wake(waiting)
	return nil
}

// promised returns the pods that have devices reserved. It is called with the lock held.
func (m *Manager) promised() (uids []types.UID) {
	for uid, containers := range m.grants {
		for _, resources := range containers {
			for _, g := range resources {
				if g.response == nil && !slices.Contains(uids, uid) {
					uids = append(uids, uid)
				}
			}
		}
	}
	return uids
}

// Resources returns what the node has of the resources that plug-ins have registered.
func (m *Manager) Resources() Resources {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.offers.resources()
}

// Allocatable is what pods may request in total for admission: what Resources says, but no less than what pods
// have, be its plug-in gone for good. So a pod that has its devices is not short of them.
func (m *Manager) Allocatable() v1.ResourceList {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.offers.resources().Allocatable
	for name, have := range m.grants.counts() {
		if q := list[v1.ResourceName(name)]; q.Value() < int64(have) {
			list[v1.ResourceName(name)] = *resource.NewQuantity(int64(have), resource.DecimalSI)
		}
	}
	return list
}

// Fresh reports whether there was no checkpoint at the start: this is a new node, or one that has been set up
// anew, and what its object says of extended resources is not true of it (the kubelet's
// ShouldResetExtendedResourceCapacity).
func (m *Manager) Fresh() bool { return m.fresh }

// Device is one device of a resource.
type Device struct {
	Resource, ID string
	Nodes        []int // the NUMA nodes that it belongs to
}

func sorted(list []Device) []Device {
	slices.SortFunc(list, func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Devices returns the devices that a container has, in order.
func (m *Manager) Devices(uid types.UID, container string) (list []Device) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for resource, g := range m.grants[uid][container] {
		if g.response == nil {
			continue
		}
		for id, nodes := range g.devices {
			list = append(list, Device{resource, id, nodes.Nodes()})
		}
	}
	return sorted(list)
}

// AllocatableDevices returns all healthy devices, in order, whoever has them.
func (m *Manager) AllocatableDevices() (list []Device) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for resource, o := range m.offers {
		for id, d := range o.healthy() {
			list = append(list, Device{resource, id, d.nodes.Nodes()})
		}
	}
	return sorted(list)
}

// Health returns what a container's status says of its devices (KEP-4680).
func (m *Manager) Health(uid types.UID, container string) (list []v1.ResourceStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, resource := range slices.Sorted(maps.Keys(m.grants[uid][container])) {
		g := m.grants[uid][container][resource]
		if g.response == nil {
			continue
		}
		s := v1.ResourceStatus{Name: v1.ResourceName(resource)}
		for _, id := range g.ids() {
			s.Resources = append(s.Resources, v1.ResourceHealth{ResourceID: v1.ResourceID(id), Health: m.offers[resource].health(id)})
		}
		list = append(list, s)
	}
	return list
}

// Content is what a container gets for its devices.
type Content struct {
	Envs        map[string]string
	Mounts      []*cri.Mount
	Nodes       []*cri.Device
	Annotations map[string]string
	CDI         []string // fully qualified names
}

// Content returns what a container gets for the devices that it has. Of what several resources give
// differently the first by name counts.
func (m *Manager) Content(uid types.UID, container string) Content {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := Content{Envs: map[string]string{}, Annotations: map[string]string{}}
	for _, resource := range slices.Sorted(maps.Keys(m.grants[uid][container])) {
		r := m.grants[uid][container][resource].response
		for name, value := range r.GetEnvs() {
			if _, ok := c.Envs[name]; !ok {
				c.Envs[name] = value
			}
		}
		for name, value := range r.GetAnnotations() {
			if _, ok := c.Annotations[name]; !ok {
				c.Annotations[name] = value
			}
		}
		for _, d := range r.GetDevices() {
			if !slices.ContainsFunc(c.Nodes, func(n *cri.Device) bool { return n.ContainerPath == d.ContainerPath }) {
				c.Nodes = append(c.Nodes, &cri.Device{HostPath: d.HostPath, ContainerPath: d.ContainerPath, Permissions: cmp.Or(d.Permissions, "rwm")})
			}
		}
		for _, d := range r.GetMounts() {
			if !slices.ContainsFunc(c.Mounts, func(n *cri.Mount) bool { return n.ContainerPath == d.ContainerPath }) {
				c.Mounts = append(c.Mounts, &cri.Mount{HostPath: d.HostPath, ContainerPath: d.ContainerPath, Readonly: d.ReadOnly})
			}
		}
		for _, d := range r.GetCdiDevices() {
			if !slices.Contains(c.CDI, d.Name) {
				c.CDI = append(c.CDI, d.Name)
			}
		}
	}
	return c
}

// next returns how long it is until a resource is removed, after removing those that are due.
func (m *Manager) next() <-chan time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.cfg.Clock.Now()
	removed, next := m.offers.expire(now)
	if len(removed) > 0 {
		klog.InfoS("The node has no longer resources whose device plug-ins have been gone for some time", "resources", removed, "after", stopGrace)
		m.saveResources()
		m.cfg.Changed()
		m.wakeUsers(removed...)
	}
	if next.IsZero() {
		return nil
	}
	return m.cfg.Clock.After(next.Sub(now))
}

// wakeUsers has all pods looked at that have devices of these resources. It is called with the lock held.
func (m *Manager) wakeUsers(resources ...string) {
	for _, resource := range resources {
		if uids := m.grants.users(resource, func(string) bool { return true }); len(uids) > 0 {
			m.cfg.Wake(uids)
		}
	}
}

// Run serves registrations on kubelet.sock until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	defer m.wait.Wait()
	m.wait.Go(func() { m.serve(ctx) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.due:
		case <-m.next():
		}
	}
}

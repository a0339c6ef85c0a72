package devicemanager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/grpcsocket"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/pluginregistry"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/devicemanager/checkpoint"
)

const (
	socketName = "kubelet.sock"

	maxConnections = 64
	maxRequests    = 16 // of one connection at a time
	maxIdle        = 5 * time.Minute
)

// serve takes registrations, and tries again later if that is impossible: device plug-ins are not all that the node
// is for.
func (m *Manager) serve(ctx context.Context) {
	first := true
	grpcsocket.Keep(ctx, m.cfg.Clock, "Device plug-ins cannot register", func(ctx context.Context) (*grpcsocket.Server, error) {
		if err := m.makeDir(first); err != nil {
			return nil, err
		}
		first = false
		return m.listen(ctx)
	})
}

// listen makes kubelet.sock anew, by which plug-ins notice a new agent.
func (m *Manager) listen(ctx context.Context) (*grpcsocket.Server, error) {
	path := filepath.Join(m.dir, socketName)
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	s := grpc.NewServer(grpc.MaxRecvMsgSize(64<<10), grpc.MaxConcurrentStreams(maxRequests), grpc.ConnectionTimeout(connectTimeout), grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: maxIdle}))
	api.RegisterRegistrationServer(s, &registrations{m: m, ctx: ctx})
	return &grpcsocket.Server{GRPC: s, Listener: l, Path: path, Connections: maxConnections}, nil
}

// makeDir makes the directory where it is missing. At first it removes what others have left in it; later
// the plug-ins are those of this agent, and only what is in the way of its socket goes. The checkpoint is written
// anew if it went with the directory.
func (m *Manager) makeDir(first bool) error {
	if err := durable.MakeWay(m.dir, lost); err != nil && !errors.Is(err, durable.ErrDamaged) {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o750); err != nil {
		return err
	}
	if first {
		return clean(m.dir)
	}
	if err := os.Remove(filepath.Join(m.dir, socketName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := os.Lstat(filepath.Join(m.dir, checkpoint.FileName)); errors.Is(err, fs.ErrNotExist) && (len(m.grants) > 0 || len(m.offers) > 0) {
		return m.put(m.grants)
	}
	return nil
}

// clean removes the sockets that earlier agents and plug-ins have left, as the kubelet does: a plug-in that
// is alive sees that and makes its socket anew.
func clean(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type()&fs.ModeSocket == 0 {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// registrations is the service on kubelet.sock. ctx is the agent's.
type registrations struct {
	api.UnimplementedRegistrationServer
	m   *Manager
	ctx context.Context
}

// Register implements the API's Registration.
func (r *registrations) Register(ctx context.Context, q *api.RegisterRequest) (*api.Empty, error) {
	err := checkEndpoint(q.GetEndpoint())
	if err == nil {
		var taken pluginregistry.Registration
		taken, err = r.m.Register(ctx, pluginregistry.Plugin{Name: q.ResourceName, Endpoint: filepath.Join(r.m.dir, q.Endpoint), Versions: []string{q.Version}})
		if err == nil {
			r.m.wait.Go(func() {
				taken.Stay(r.ctx)
				taken.Leave(r.ctx)
			})
			return &api.Empty{}, nil
		}
	}
	klog.ErrorS(err, "Refused a device plug-in", "resourceName", q.GetResourceName())
	return nil, err
}

// Register implements pluginregistry.Handler, for plug-ins that come by plugins_registry.
func (m *Manager) Register(ctx context.Context, p pluginregistry.Plugin) (pluginregistry.Registration, error) {
	if err := errors.Join(checkVersions(p.Versions...), checkName(p.Name)); err != nil {
		return nil, err
	}
	c, err := connect(ctx, p.Name, p.Endpoint)
	if err != nil {
		return nil, err
	}
	if err := m.join(c); err != nil {
		_ = c.conn.Close()
		return nil, err
	}
	m.metrics.registered(p.Name)
	return &member{m, c}, nil
}

// join makes a plug-in known. One that was known by the same socket is replaced.
func (m *Manager) join(p *plugin) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, o := range m.offers {
		n += len(o.plugins)
	}
	o, known := m.offers[p.resource]
	switch {
	case n >= maxPlugins:
		return fmt.Errorf("%d device plug-ins are registered already", n)
	case !known && len(m.offers) >= maxResources: // the node's status names each, also when its plug-in has gone
		return fmt.Errorf("device plug-ins have registered %d resources since the agent started", len(m.offers))
	case !known:
		o = &offer{}
		m.offers[p.resource] = o
	}
	before := m.told(o)
	o.plugins = slices.DeleteFunc(o.plugins, func(old *plugin) bool {
		if old.socket == p.socket && old.stop != nil {
			old.stop()
		}
		return old.socket == p.socket
	})
	o.plugins = append(o.plugins, p)
	o.serve(m.cfg.Clock.Now())
	m.saveResources()
	m.tell(p.resource, o, before)
	return nil
}

// member is a plug-in that has registered.
type member struct {
	m *Manager
	p *plugin
}

// Stay implements pluginregistry.Registration: it follows what the plug-in lists.
func (t *member) Stay(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.m.mu.Lock()
	t.p.stop = cancel
	replaced := !slices.Contains(t.m.offers[t.p.resource].plugins, t.p)
	t.m.mu.Unlock()
	if replaced {
		return
	}
	klog.InfoS("Registered device plug-in", "resourceName", t.p.resource, "socket", t.p.socket)
	err := t.p.watch(ctx, func(devices map[string]device) { t.m.list(t.p, devices) })
	if ctx.Err() == nil {
		klog.ErrorS(err, "Device plug-in lists its devices no longer", "resourceName", t.p.resource, "socket", t.p.socket)
	}
}

// Leave implements pluginregistry.Registration. When only the agent ends, nothing changes.
func (t *member) Leave(ctx context.Context) {
	_ = t.p.conn.Close()
	if ctx.Err() == nil {
		t.m.leave(t.p)
	}
}

// leave forgets a plug-in.
func (m *Manager) leave(p *plugin) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.offers[p.resource]
	before := m.told(o)
	o.plugins = slices.DeleteFunc(o.plugins, func(other *plugin) bool { return other == p })
	o.serve(m.cfg.Clock.Now())
	if o.current() == nil {
		klog.InfoS("The last device plug-in of a resource has gone, its devices are given to nobody", "resourceName", p.resource)
	}
	m.tell(p.resource, o, before)
	select {
	case m.due <- struct{}{}:
	default:
	}
}

// list takes in what a plug-in lists.
func (m *Manager) list(p *plugin, devices map[string]device) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.offers[p.resource]
	before := m.told(o)
	p.devices = devices
	o.serve(m.cfg.Clock.Now())
	m.tell(p.resource, o, before)
}

// state is what others are told of an offer.
type said struct {
	all     int
	healthy map[string]device
	served  bool
}

func (m *Manager) told(o *offer) said {
	return said{len(o.devices), o.healthy(), o.current() != nil}
}

// tell has everybody look at what has changed: the node's status, and the pods with devices whose
// health is another. It is called with the lock held.
func (m *Manager) tell(resource string, o *offer, before said) {
	now := m.told(o)
	differs := func(id string) bool { return before.healthy[id].healthy != now.healthy[id].healthy }
	changed := before.all != now.all || len(before.healthy) != len(now.healthy) || before.served != now.served
	for id := range before.healthy {
		changed = changed || differs(id)
	}
	if !changed {
		return
	}
	klog.InfoS("Devices changed", "resourceName", resource, "devices", now.all, "healthy", len(now.healthy), "healthyBefore", len(before.healthy))
	m.cfg.Changed()
	users := m.grants.users(resource, func(id string) bool { return before.served != now.served || differs(id) })
	m.report(resource, users, now)
	if len(users) > 0 {
		m.cfg.Wake(users)
	}
}

// report logs for each pod which of its devices can no longer be used. It is called with the lock held.
func (m *Manager) report(resource string, users []types.UID, now said) {
	if !now.served {
		return
	}
	for _, uid := range users {
		for container, resources := range m.grants[uid] {
			g := resources[resource]
			if g == nil {
				continue
			}
			ill := slices.DeleteFunc(g.ids(), func(id string) bool { return now.healthy[id].healthy })
			if len(ill) > 0 {
				klog.InfoS("Devices of a container are not healthy", "podUID", uid, "containerName", container, "resourceName", resource, "devices", ill)
			}
		}
	}
}

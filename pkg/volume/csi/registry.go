package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/dirwatch"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
)

// registryDir is where plug-ins of all kinds put their registration sockets.
const registryDir = "plugins_registry"

const (
	registerTimeout = 10 * time.Second // for one call to a registration socket
	firstRetry      = 500 * time.Millisecond
	lastRetry       = 2 * time.Minute
	rescan          = 30 * time.Second // in case an event was missed
	maxDriverName   = 253              // bytes: it is the name of its CSIDriver, too
)

// Run registers drivers whose sockets appear in the registry and withdraws those
// whose sockets disappear, until ctx ends. Each has a goroutine while its socket
// exists, so that one which hangs does not delay the others.
func (m *Manager) Run(ctx context.Context) error {
	dir := filepath.Join(m.cfg.Root, registryDir)
	err := durable.MakeWay(dir, "The sockets of CSI drivers. Restart the drivers that are not there.")
	if err == nil || errors.Is(err, durable.ErrDamaged) {
		err = os.MkdirAll(dir, 0o750)
	}
	if err != nil {
		return fmt.Errorf("watch for plug-ins: %w", err)
	}
	watch := dirwatch.New()
	defer watch.Close()
	if err := watch.Err(); err != nil {
		klog.ErrorS(err, "The directory of plug-ins is not watched, scanning instead", "path", dir, "every", rescan)
	}
	tick := time.NewTicker(rescan)
	defer tick.Stop()
	r := &registry{m: m, known: map[socket]context.CancelFunc{}}
	defer r.wait.Wait()
	r.wait.Go(func() { m.limits.watch(ctx, m.cfg.Client) })
	r.wait.Go(func() { m.begin(ctx) })
	for {
		r.scan(ctx, watch, dir)
		select {
		case <-ctx.Done():
			return nil
		case <-watch.Events():
		case <-tick.C:
		case err := <-watch.Errors():
			klog.ErrorS(err, "The watch for plug-ins failed, scanning for them", "path", dir) // then scans again
		}
	}
}

// socket is a plug-in's socket; one created anew is a different one.
type socket struct{ path, inode string }

type registry struct {
	m     *Manager
	known map[socket]context.CancelFunc
	wait  sync.WaitGroup
}

// scan starts what has appeared and stops what has gone. Like the kubelet, it looks
// into subdirectories too.
func (r *registry) scan(ctx context.Context, watch *dirwatch.Watch, dir string) {
	found := map[socket]bool{}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil, strings.HasPrefix(d.Name(), ".") && p != dir:
			return nil // it has just gone, or is not for us
		case d.IsDir():
			_ = watch.Add(p) // if it fails, the rescan finds changes
			return nil
		case d.Type()&fs.ModeSocket == 0:
			return nil
		}
		if fi, err := d.Info(); err == nil {
			st, _ := fi.Sys().(*syscall.Stat_t)
			found[socket{p, strconv.FormatUint(st.Ino, 10) + fi.ModTime().String()}] = true
		}
		return nil
	})
	for s, stop := range r.known {
		if !found[s] {
			stop()
			delete(r.known, s)
		}
	}
	for s := range found {
		if r.known[s] != nil {
			continue
		}
		own, stop := context.WithCancel(ctx)
		r.known[s] = stop
		r.wait.Go(func() { r.m.keep(ctx, own, s.path) })
	}
}

// keep registers the driver behind a socket, and withdraws it when own ends but the
// agent goes on.
func (m *Manager) keep(ctx, own context.Context, path string) {
	var failing logonce.Error
	backOff := wait.Backoff{Duration: firstRetry, Factor: 2, Cap: lastRetry, Steps: math.MaxInt32}
	for {
		d, err := m.register(ctx, own, path)
		if err == nil {
			m.stay(own, d)
			m.deregister(ctx, d)
			return
		}
		if errors.Is(err, errOther) {
			return
		}
		if own.Err() == nil && failing.Note(err) {
			klog.ErrorS(err, "Could not register a plug-in, trying again", "path", path)
		}
		select {
		case <-own.Done():
			return
		case <-time.After(backOff.Step()):
		}
	}
}

var errOther = errors.New("not a CSI driver")

// register asks what is behind a socket, asks it about the node, and tells it
// whether it was registered. ctx is the agent's, own the socket's.
func (m *Manager) register(ctx, own context.Context, path string) (*driver, error) {
	conn, err := dial(path)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := registration.NewRegistrationClient(conn)
	ask, cancel := context.WithTimeout(own, registerTimeout)
	defer cancel()
	info, err := client.GetInfo(ask, &registration.InfoRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask plug-in for its name: %w", err)
	}
	if info.Type != registration.CSIPlugin {
		return nil, errOther
	}
	endpoint := info.Endpoint
	if endpoint == "" {
		endpoint = path
	}
	d, err := m.add(own, info.Name, endpoint, info.SupportedVersions)
	answer := &registration.RegistrationStatus{PluginRegistered: err == nil}
	if err != nil {
		answer.Error = err.Error()
	}
	tell, cancelTell := context.WithTimeout(own, registerTimeout)
	defer cancelTell()
	if _, tellErr := client.NotifyRegistrationStatus(tell, answer); tellErr != nil && err == nil {
		m.deregister(ctx, d)
		err = fmt.Errorf("tell driver %s that it is registered: %w", info.Name, tellErr)
	}
	if err != nil {
		return nil, err
	}
	klog.InfoS("Registered CSI driver", "driver", info.Name, "endpoint", endpoint)
	m.cfg.Registered()
	return d, nil
}

// add makes a driver known after asking it about the node.
func (m *Manager) add(ctx context.Context, name, endpoint string, versions []string) (*driver, error) {
	if name == "" || len(name) > maxDriverName || strings.ContainsAny(name, "/\x00") || name == "." || name == ".." {
		return nil, fmt.Errorf("CSI driver %q: that is no name", bounds.Quote(name))
	}
	if err := checkVersions(versions); err != nil {
		return nil, fmt.Errorf("CSI driver %q: %w", name, err)
	}
	d, err := newDriver(name, endpoint)
	if err != nil {
		return nil, err
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := d.NodeGetInfo(call, &csipb.NodeGetInfoRequest{})
	if err == nil {
		err = m.announce(call, name, nodeInfo{r.NodeId, r.MaxVolumesPerNode, r.GetAccessibleTopology().GetSegments()})
	}
	if err != nil {
		_ = d.conn.Close()
		return nil, fmt.Errorf("register driver %s: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drivers[name] = d
	return d, nil
}

// checkVersions requires one that is compatible with 1.x.
func checkVersions(versions []string) error {
	for _, v := range versions {
		major, _, _ := strings.Cut(strings.TrimPrefix(v, "v"), ".")
		if major == "1" {
			return nil
		}
	}
	return fmt.Errorf("none of the versions %s is supported: want 1.x", bounds.Quote(fmt.Sprintf("%q", versions)))
}

// deregister forgets a driver whose socket has gone, unless another driver has its
// name by now. When only the agent stops, the node still has its drivers.
func (m *Manager) deregister(ctx context.Context, d *driver) {
	_ = d.conn.Close()
	m.mu.Lock()
	current := m.drivers[d.name] == d
	if current {
		delete(m.drivers, d.name)
	}
	m.mu.Unlock()
	if !current || ctx.Err() != nil {
		return
	}
	klog.InfoS("CSI driver has gone", "driver", d.name)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := m.withdraw(ctx, d.name); err != nil {
		klog.ErrorS(err, "Could not withdraw a CSI driver", "driver", d.name)
	}
}

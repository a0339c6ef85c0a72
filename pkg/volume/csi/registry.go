package csi

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/pluginregistry"
)

// How long what has failed about the CSINode waits before it is tried again.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 2 * time.Minute
)

const maxDriverName = 253 // bytes: it is the name of its CSIDriver, too

// Run makes the CSINode and follows what CSIDrivers say of limits, until ctx ends. Drivers come
// by Register.
func (m *Manager) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() { m.limits.watch(ctx, m.cfg.Client) })
	wait.Go(func() { m.begin(ctx) })
	<-ctx.Done()
	return nil
}

// Register implements pluginregistry.Handler: it makes a driver known after asking it about
// the node.
func (m *Manager) Register(ctx context.Context, p pluginregistry.Plugin) (pluginregistry.Registration, error) {
	d, err := m.add(ctx, p.Name, p.Endpoint, p.Versions)
	if err != nil {
		return nil, err
	}
	return &registered{m, d, p.Endpoint}, nil
}

// registered is a driver that has registered.
type registered struct {
	m        *Manager
	driver   *driver
	endpoint string
}

// Stay implements pluginregistry.Registration.
func (r *registered) Stay(ctx context.Context) {
	klog.InfoS("Registered CSI driver", "driver", r.driver.name, "endpoint", r.endpoint)
	r.m.cfg.Registered()
	r.m.stay(ctx, r.driver)
}

// Leave implements pluginregistry.Registration.
func (r *registered) Leave(ctx context.Context) { r.m.deregister(ctx, r.driver) }

// add makes a driver known after asking it about the node.
func (m *Manager) add(ctx context.Context, name, endpoint string, versions []string) (*driver, error) {
	if name == "" || len(name) > maxDriverName || strings.ContainsAny(name, "/\x00") || name == "." || name == ".." {
		return nil, fmt.Errorf("CSI driver %q: that is no name", bounds.Quote(name))
	}
	if err := checkVersions(versions); err != nil {
		return nil, fmt.Errorf("CSI driver %q: %w", name, err)
	}
	d, err := newDriver(name, endpoint, m.calls)
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

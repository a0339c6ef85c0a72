// Package deviceplugin is a small device plug-in for tests (API v1beta1): its devices are what the test
// says. It speaks real gRPC on real sockets and registers itself as plug-ins do, by kubelet.sock.
package deviceplugin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Config says what the plug-in is like.
type Config struct {
	Resource string
	Root     string // the kubelet's directory
	Socket   string // its own socket's name; "" is one made of the resource
	Devices  []*api.Device
	Options  *api.DevicePluginOptions // nil: none
	// Give returns what a container gets for devices; nil: the variable DEVICES with their IDs.
	Give func(ids []string) *api.ContainerAllocateResponse
	// Prefer returns the devices to take; nil: no opinion.
	Prefer func(available, certain []string, n int) []string
	// Before is called with each call and may block; what it returns, unless nil, is the answer.
	Before func(ctx context.Context, call string) error
}

// Plugin is one that runs. Safe for concurrent use.
type Plugin struct {
	api.UnimplementedDevicePluginServer
	cfg     Config
	server  *grpc.Server
	serving sync.WaitGroup

	mu      sync.Mutex
	devices []*api.Device
	changed chan struct{} // closed when devices change
	calls   map[string][][]string
}

// dir is where plug-ins have their sockets.
func (c Config) dir() string { return filepath.Join(c.Root, "device-plugins") }

// Start serves the plug-in and registers it, until Stop.
func Start(ctx context.Context, cfg Config) (*Plugin, error) {
	if cfg.Socket == "" {
		cfg.Socket = strings.ReplaceAll(cfg.Resource, "/", "_") + ".sock"
	}
	p := &Plugin{cfg: cfg, devices: cfg.Devices, changed: make(chan struct{}), calls: map[string][][]string{}}
	// The agent clears the directory before its socket is there.
	for {
		if _, err := os.Lstat(filepath.Join(cfg.dir(), "kubelet.sock")); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no kubelet.sock: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
	path := filepath.Join(cfg.dir(), cfg.Socket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	p.server = grpc.NewServer()
	api.RegisterDevicePluginServer(p.server, p)
	p.serving.Go(func() { _ = p.server.Serve(l) }) // ends with Stop, which removes the socket
	if err := Register(ctx, cfg.Root, cfg.Resource, cfg.Socket); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// Register tells the agent of a plug-in.
func Register(ctx context.Context, root, resource, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+filepath.Join(root, "device-plugins", "kubelet.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = api.NewRegistrationClient(conn).Register(ctx, &api.RegisterRequest{Version: api.Version, ResourceName: resource, Endpoint: socket}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("register %s: %w", resource, err)
	}
	return nil
}

// Stop ends the plug-in, as if it had been killed, and removes its socket.
func (p *Plugin) Stop() {
	p.server.Stop()
	p.serving.Wait()
}

// Set replaces the devices.
func (p *Plugin) Set(devices ...*api.Device) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.devices = devices
	close(p.changed)
	p.changed = make(chan struct{})
}

// Calls returns the IDs of each call so far of "Allocate", "PreStartContainer" or "GetPreferredAllocation".
func (p *Plugin) Calls(name string) [][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls[name])
}

// call notes a call and lets the test have a say.
func (p *Plugin) call(ctx context.Context, name string, ids []string) error {
	p.mu.Lock()
	p.calls[name] = append(p.calls[name], slices.Sorted(slices.Values(ids)))
	p.mu.Unlock()
	if p.cfg.Before == nil {
		return nil
	}
	return p.cfg.Before(ctx, name)
}

// GetDevicePluginOptions implements the API.
func (p *Plugin) GetDevicePluginOptions(ctx context.Context, _ *api.Empty) (*api.DevicePluginOptions, error) {
	if p.cfg.Options == nil {
		return &api.DevicePluginOptions{}, p.call(ctx, "GetDevicePluginOptions", nil)
	}
	return p.cfg.Options, p.call(ctx, "GetDevicePluginOptions", nil)
}

// ListAndWatch implements the API.
func (p *Plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	if err := p.call(stream.Context(), "ListAndWatch", nil); err != nil {
		return err
	}
	for {
		p.mu.Lock()
		devices, changed := p.devices, p.changed
		p.mu.Unlock()
		if err := stream.Send(&api.ListAndWatchResponse{Devices: devices}); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-changed:
		}
	}
}

// GetPreferredAllocation implements the API.
func (p *Plugin) GetPreferredAllocation(ctx context.Context, q *api.PreferredAllocationRequest) (*api.PreferredAllocationResponse, error) {
	out := &api.PreferredAllocationResponse{}
	for _, c := range q.ContainerRequests {
		if err := p.call(ctx, "GetPreferredAllocation", c.AvailableDeviceIDs); err != nil {
			return nil, err
		}
		r := &api.ContainerPreferredAllocationResponse{}
		if p.cfg.Prefer != nil {
			r.DeviceIDs = p.cfg.Prefer(c.AvailableDeviceIDs, c.MustIncludeDeviceIDs, int(c.AllocationSize))
		}
		out.ContainerResponses = append(out.ContainerResponses, r)
	}
	return out, nil
}

// Allocate implements the API.
func (p *Plugin) Allocate(ctx context.Context, q *api.AllocateRequest) (*api.AllocateResponse, error) {
	out := &api.AllocateResponse{}
	for _, c := range q.ContainerRequests {
		if err := p.call(ctx, "Allocate", c.DevicesIds); err != nil {
			return nil, err
		}
		r := &api.ContainerAllocateResponse{Envs: map[string]string{"DEVICES": strings.Join(slices.Sorted(slices.Values(c.DevicesIds)), ",")}}
		if p.cfg.Give != nil {
			r = p.cfg.Give(c.DevicesIds)
		}
		out.ContainerResponses = append(out.ContainerResponses, r)
	}
	return out, nil
}

// PreStartContainer implements the API.
func (p *Plugin) PreStartContainer(ctx context.Context, q *api.PreStartContainerRequest) (*api.PreStartContainerResponse, error) {
	return &api.PreStartContainerResponse{}, p.call(ctx, "PreStartContainer", q.DevicesIds)
}

// Devices returns devices that are healthy, or not, by their IDs.
func Devices(healthy map[string]bool) (list []*api.Device) {
	for _, id := range slices.Sorted(maps.Keys(healthy)) {
		d := &api.Device{ID: id, Health: api.Unhealthy}
		if healthy[id] {
			d.Health = api.Healthy
		}
		list = append(list, d)
	}
	return list
}

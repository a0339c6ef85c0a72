package network

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
)

// statusFor is how long a check that has found the engine's bridge remains valid.
const statusFor = 10 * time.Second

// engineBridge names Docker's default network and the option that names its device.
const (
	engineBridge = "bridge"
	deviceOption = "com.docker.network.bridge.name"
)

// dockerPlugin leaves everything to the engine: while it starts a sandbox, Docker attaches it
// to its bridge, maps its ports and sets hairpin mode.
type dockerPlugin struct {
	docker *client.Client

	mu     sync.Mutex
	looked time.Time
	status error
}

func newDocker(cfg Config) Plugin { return &dockerPlugin{docker: cfg.Docker} }

func (*dockerPlugin) Name() string { return Docker }

func (*dockerPlugin) EngineMode() string { return engineBridge }

// Status checks that the engine has its bridge: a daemon can be started without one, and
// somebody can delete the device.
func (p *dockerPlugin) Status(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status == nil && time.Since(p.looked) < statusFor { // pods wait for a bridge that is not there
		return p.status
	}
	status := p.look(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.looked, p.status = time.Now(), status
	return status
}

func (p *dockerPlugin) look(ctx context.Context) error {
	bridge, err := p.docker.NetworkInspect(ctx, engineBridge, network.InspectOptions{})
	if err != nil {
		return fmt.Errorf("docker's bridge network: %w", err)
	}
	if device := bridge.Options[deviceOption]; device != "" {
		if _, err := net.InterfaceByName(device); err != nil {
			return fmt.Errorf("docker's bridge network: device %s is gone; restart Docker to get it back", device)
		}
	}
	return nil
}

func (*dockerPlugin) Warning() string { return "" }

func (*dockerPlugin) SetUp(context.Context, Sandbox, string) (Result, error) { return Result{}, nil }

func (*dockerPlugin) Check(context.Context, string, string) error { return nil }

func (*dockerPlugin) TearDown(context.Context, string, string) error { return nil }

func (*dockerPlugin) Result(string) (Result, bool, error) { return Result{}, false, nil }

// UpdatePodCIDR does nothing: the engine assigns addresses of its bridge.
func (*dockerPlugin) UpdatePodCIDR(string) error { return nil }

func (*dockerPlugin) Reconcile(context.Context, func(string) bool) error { return nil }

func (*dockerPlugin) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

package devicemanager

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/pluginregistry"
)

const (
	connectTimeout = 10 * time.Second
	// listPause is the least time between two lists of a plug-in that are looked at.
	listPause = 50 * time.Millisecond
)

// plugin is a device plug-in that has registered for one resource.
type plugin struct {
	resource, socket string
	conn             *grpc.ClientConn
	client           api.DevicePluginClient
	options          *api.DevicePluginOptions
	stop             context.CancelFunc // ends watch; nil until it is called
	devices          map[string]device  // of its last list; nil: none yet. The manager's lock guards it
}

// connect asks a plug-in for its options.
func connect(ctx context.Context, resource, socket string) (*plugin, error) {
	conn, err := pluginregistry.Dial(socket, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("dial device plug-in of %s at %s: %w", resource, socket, err)
	}
	p := &plugin{resource: resource, socket: socket, conn: conn, client: api.NewDevicePluginClient(conn)}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	// It may register before it serves.
	if p.options, err = p.client.GetDevicePluginOptions(ctx, &api.Empty{}, grpc.WaitForReady(true)); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("failed to get device plugin options: %w", told(err))
	}
	return p, nil
}

// told bounds what a plug-in says of a failure.
func told(err error) error { return fmt.Errorf("%s", bounds.Cut(err.Error(), 512)) }

// watch hands each list of devices to take until the plug-in ends the stream, take refuses one, or ctx ends.
func (p *plugin) watch(ctx context.Context, take func(map[string]device)) error {
	stream, err := p.client.ListAndWatch(ctx, &api.Empty{})
	if err != nil {
		return told(err)
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return told(err)
		}
		devices, err := devicesOf(r.GetDevices())
		if err != nil {
			return err
		}
		klog.V(4).InfoS("Device plug-in lists its devices", "resourceName", p.resource, "devices", len(devices))
		take(devices)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(listPause):
		}
	}
}

func (p *plugin) preferred(ctx context.Context, available, certain []string, n int) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, preferTimeout)
	defer cancel()
	r, err := p.client.GetPreferredAllocation(ctx, &api.PreferredAllocationRequest{ContainerRequests: []*api.ContainerPreferredAllocationRequest{
		{AvailableDeviceIDs: available, MustIncludeDeviceIDs: certain, AllocationSize: int32(n)},
	}})
	if err != nil {
		return nil, fmt.Errorf("device plugin GetPreferredAllocation rpc failed with err: %w", told(err))
	}
	if len(r.GetContainerResponses()) == 0 {
		return nil, nil
	}
	return r.ContainerResponses[0].GetDeviceIDs(), nil
}

func (p *plugin) allocate(ctx context.Context, ids []string) (*api.ContainerAllocateResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, allocateTimeout)
	defer cancel()
	r, err := p.client.Allocate(ctx, &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: ids}}})
	if err != nil {
		return nil, told(err)
	}
	c, err := checkResponse(r)
	if err != nil {
		return nil, fmt.Errorf("the answer of the device plug-in of %s cannot be used: %w", p.resource, err)
	}
	return c, nil
}

func (p *plugin) preStart(ctx context.Context, ids []string) error {
	ctx, cancel := context.WithTimeout(ctx, preStartTimeout)
	defer cancel()
	if _, err := p.client.PreStartContainer(ctx, &api.PreStartContainerRequest{DevicesIds: ids}); err != nil {
		return preStartFailed(told(err))
	}
	return nil
}

func preStartFailed(err error) error {
	return fmt.Errorf("device plugin PreStartContainer rpc failed with err: %w", err)
}

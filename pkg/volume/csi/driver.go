package csi

import (
	"context"
	"fmt"
	"sync"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/pluginregistry"
)

// driver is a registered driver.
type driver struct {
	name string
	conn *grpc.ClientConn
	csipb.NodeClient

	mu   sync.Mutex
	caps map[csipb.NodeServiceCapability_RPC_Type]bool // nil until the driver has answered
}

func dial(endpoint string, around grpc.UnaryClientInterceptor) (*grpc.ClientConn, error) {
	conn, err := pluginregistry.Dial(endpoint, grpc.WithUnaryInterceptor(around))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", endpoint, err)
	}
	return conn, nil
}

func newDriver(name, endpoint string, calls *prometheus.HistogramVec) (*driver, error) {
	conn, err := dial(endpoint, measure(calls, name))
	if err != nil {
		return nil, err
	}
	return &driver{name: name, conn: conn, NodeClient: csipb.NewNodeClient(conn)}, nil
}

// can reports whether the driver's node service has a capability. The driver is
// asked once.
func (d *driver) can(ctx context.Context, what csipb.NodeServiceCapability_RPC_Type) (bool, error) {
	d.mu.Lock()
	caps := d.caps
	d.mu.Unlock()
	if caps == nil {
		r, err := d.NodeGetCapabilities(ctx, &csipb.NodeGetCapabilitiesRequest{})
		if err != nil {
			return false, fmt.Errorf("ask driver %s for its capabilities: %w", d.name, err)
		}
		caps = map[csipb.NodeServiceCapability_RPC_Type]bool{}
		for _, c := range r.Capabilities {
			caps[c.GetRpc().GetType()] = true
		}
		d.mu.Lock()
		d.caps = caps
		d.mu.Unlock()
	}
	return caps[what], nil
}

// capability describes how a volume is to be used.
func (d *driver) capability(ctx context.Context, v Volume, group *int64) (*csipb.VolumeCapability, error) {
	single, err := d.can(ctx, csipb.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER)
	if err != nil {
		return nil, err
	}
	c := &csipb.VolumeCapability{AccessMode: &csipb.VolumeCapability_AccessMode{Mode: accessMode(v.accessMode(), single)}}
	if v.Block {
		c.AccessType = &csipb.VolumeCapability_Block{Block: &csipb.VolumeCapability_BlockVolume{}}
		return c, nil
	}
	m := &csipb.VolumeCapability_MountVolume{FsType: v.fsType(), MountFlags: v.mountOptions()}
	if group != nil {
		m.VolumeMountGroup = fmt.Sprint(*group)
	}
	c.AccessType = &csipb.VolumeCapability_Mount{Mount: m}
	return c, nil
}

// accessMode translates an access mode of Kubernetes for a driver, which may or may
// not distinguish single and multiple writers on a node.
func accessMode(mode v1.PersistentVolumeAccessMode, single bool) csipb.VolumeCapability_AccessMode_Mode {
	switch {
	case mode == v1.ReadWriteOnce && single:
		return csipb.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
	case mode == v1.ReadWriteOncePod && single:
		return csipb.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	case mode == v1.ReadWriteOnce || mode == v1.ReadWriteOncePod:
		return csipb.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	case mode == v1.ReadOnlyMany:
		return csipb.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	case mode == v1.ReadWriteMany:
		return csipb.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	}
	return csipb.VolumeCapability_AccessMode_UNKNOWN
}

// finished reports whether a call that failed has certainly ended. If not, the
// driver may still be working, and its result must be undone later (the kubelet's
// rule).
func finished(err error) bool {
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		return false
	}
	return true
}

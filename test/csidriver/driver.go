// Package csidriver is a small CSI driver for tests: its volumes are directories of
// the host, bind-mounted to where they are staged and published. It speaks real
// gRPC on real sockets and registers itself as drivers do.
package csidriver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Config says what the driver is like.
type Config struct {
	Name string
	Root string // the kubelet's directory
	Data string // holds the volumes, a directory each
	// Endpoint is where it says that its services are, "" where they are.
	Endpoint string
	// Topology and MaxVolumes are what it says of its node.
	Topology   map[string]string
	MaxVolumes int64
	// NoStaging has volumes published without being staged.
	NoStaging bool
	// MountGroup has the driver apply fsGroup.
	MountGroup bool
	// Expand has the driver grow volumes on the node.
	Expand bool
	Stats  bool // it tells what its volumes occupy
	// Before is called with each call of the node service and may block; what it
	// returns, unless nil, is the answer. May be nil.
	Before func(ctx context.Context, call string) error
}

// Driver is one that runs. Safe for concurrent use.
type Driver struct {
	csi.UnimplementedNodeServer
	csi.UnimplementedIdentityServer
	registration.UnimplementedRegistrationServer

	cfg    Config
	socket string // of its registration

	mu        sync.Mutex
	calls     []string
	published []*csi.NodePublishVolumeRequest
	staged    []*csi.NodeStageVolumeRequest
	expanded  []*csi.NodeExpandVolumeRequest
	told      []*registration.RegistrationStatus

	servers []*grpc.Server
	serving sync.WaitGroup
}

// Start serves the driver and puts its registration socket into the kubelet's
// registry, until Stop.
func Start(cfg Config) (*Driver, error) {
	d := &Driver{cfg: cfg, socket: filepath.Join(cfg.Root, "plugins_registry", cfg.Name+"-reg.sock")}
	if err := os.MkdirAll(cfg.Data, 0o755); err != nil {
		return nil, err
	}
	node := grpc.NewServer(grpc.UnaryInterceptor(d.intercept))
	csi.RegisterNodeServer(node, d)
	csi.RegisterIdentityServer(node, d)
	reg := grpc.NewServer()
	registration.RegisterRegistrationServer(reg, d)
	for socket, server := range map[string]*grpc.Server{d.endpoint(): node, d.socket: reg} {
		if err := d.serve(socket, server); err != nil {
			d.Stop()
			return nil, err
		}
	}
	return d, nil
}

func (d *Driver) serve(socket string, server *grpc.Server) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	d.servers = append(d.servers, server)
	d.serving.Go(func() { _ = server.Serve(l) }) // ends with Stop, which removes the socket
	return nil
}

// Stop ends the driver and takes its sockets away. Its mounts stay.
func (d *Driver) Stop() {
	for _, s := range d.servers {
		s.Stop()
	}
	d.serving.Wait()
}

func (d *Driver) endpoint() string {
	return filepath.Join(d.cfg.Root, "plugins", d.cfg.Name, "csi.sock")
}

// Calls are the calls of the node service so far, "NodeStageVolume" and so on, but
// for questions.
func (d *Driver) Calls() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// Published are the requests to publish so far.
func (d *Driver) Published() []*csi.NodePublishVolumeRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.published)
}

// Staged are the requests to stage so far.
func (d *Driver) Staged() []*csi.NodeStageVolumeRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.staged)
}

// SetMaxVolumes changes what it says of its node.
func (d *Driver) SetMaxVolumes(most int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cfg.MaxVolumes = most
}

// Expanded are the requests to grow a volume so far.
func (d *Driver) Expanded() []*csi.NodeExpandVolumeRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.expanded)
}

// Registered is what the driver was told of its registration last, nil for nothing.
func (d *Driver) Registered() *registration.RegistrationStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.told) == 0 {
		return nil
	}
	return d.told[len(d.told)-1]
}

// Volume is the directory that a volume shows.
func (d *Driver) Volume(id string) string { return filepath.Join(d.cfg.Data, filepath.Base(id)) }

func (d *Driver) intercept(ctx context.Context, r any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	call := filepath.Base(info.FullMethod)
	if call != "NodeGetCapabilities" && call != "NodeGetInfo" {
		d.mu.Lock()
		d.calls = append(d.calls, call)
		d.mu.Unlock()
	}
	if d.cfg.Before != nil {
		if err := d.cfg.Before(ctx, call); err != nil {
			return nil, err
		}
	}
	return handle(ctx, r)
}

// GetInfo implements the registration.
func (d *Driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	endpoint := d.cfg.Endpoint
	if endpoint == "" {
		endpoint = d.endpoint()
	}
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: d.cfg.Name, Endpoint: endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

// NotifyRegistrationStatus implements the registration.
func (d *Driver) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = append(d.told, s)
	return &registration.RegistrationStatusResponse{}, nil
}

// NodeGetInfo implements the node service.
func (d *Driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &csi.NodeGetInfoResponse{
		NodeId: "id-of-this-node", MaxVolumesPerNode: d.cfg.MaxVolumes, AccessibleTopology: &csi.Topology{Segments: maps.Clone(d.cfg.Topology)},
	}, nil
}

// NodeGetCapabilities implements the node service.
func (d *Driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	r := &csi.NodeGetCapabilitiesResponse{}
	add := func(t csi.NodeServiceCapability_RPC_Type) {
		r.Capabilities = append(r.Capabilities, &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}}})
	}
	if !d.cfg.NoStaging {
		add(csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME)
	}
	if d.cfg.MountGroup {
		add(csi.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP)
	}
	if d.cfg.Expand {
		add(csi.NodeServiceCapability_RPC_EXPAND_VOLUME)
	}
	if d.cfg.Stats {
		add(csi.NodeServiceCapability_RPC_GET_VOLUME_STATS)
	}
	return r, nil
}

// NodeExpandVolume implements the node service. The size lies beside the volume.
func (d *Driver) NodeExpandVolume(_ context.Context, r *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	d.mu.Lock()
	d.expanded = append(d.expanded, r)
	d.mu.Unlock()
	if mounted, err := mountinfo.Mounted(r.VolumePath); err != nil || !mounted {
		return nil, status.Error(codes.NotFound, "the volume is not published there")
	}
	size := r.GetCapacityRange().GetRequiredBytes()
	if err := os.WriteFile(d.Volume(r.VolumeId)+".size", []byte(strconv.FormatInt(size, 10)), 0o644); err != nil {
		return nil, err
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: size}, nil
}

// NodeGetVolumeStats implements the node service. What it tells is made up, to be recognized.
func (d *Driver) NodeGetVolumeStats(_ context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	if _, err := os.Stat(r.VolumePath); err != nil {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: 1000, Available: 600, Used: 400}, {Unit: csi.VolumeUsage_INODES, Total: 100, Available: 99, Used: 1},
	}}, nil
}

// NodeStageVolume implements the node service.
func (d *Driver) NodeStageVolume(_ context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	d.mu.Lock()
	d.staged = append(d.staged, r)
	d.mu.Unlock()
	if r.VolumeId == "" || r.VolumeCapability == nil {
		return nil, status.Error(codes.InvalidArgument, "no volume or capability")
	}
	if err := os.MkdirAll(d.Volume(r.VolumeId), 0o755); err != nil {
		return nil, err
	}
	return &csi.NodeStageVolumeResponse{}, bind(d.Volume(r.VolumeId), r.StagingTargetPath, false)
}

// NodeUnstageVolume implements the node service.
func (d *Driver) NodeUnstageVolume(_ context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	return &csi.NodeUnstageVolumeResponse{}, unbind(r.StagingTargetPath)
}

// NodePublishVolume implements the node service. What it was asked lies beside the
// volume as JSON.
func (d *Driver) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	d.mu.Lock()
	d.published = append(d.published, r)
	d.mu.Unlock()
	source := r.StagingTargetPath
	if source == "" {
		source = d.Volume(r.VolumeId)
		if err := os.MkdirAll(source, 0o755); err != nil {
			return nil, err
		}
	} else if mounted, _ := mountinfo.Mounted(source); !mounted {
		return nil, status.Error(codes.FailedPrecondition, "the volume is not staged")
	}
	if r.VolumeCapability.GetBlock() != nil {
		device, err := os.Readlink(filepath.Join(d.Volume(r.VolumeId), "device"))
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, "the volume is no device")
		}
		source = device
	}
	asked, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(d.Volume(r.VolumeId)+".json", asked, 0o644); err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, bind(source, r.TargetPath, r.Readonly)
}

// NodeUnpublishVolume implements the node service.
func (d *Driver) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := unbind(r.TargetPath); err != nil {
		return nil, err
	}
	if err := os.Remove(r.TargetPath); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// bind shows source at target unless it is shown there.
func bind(source, target string, readOnly bool) error {
	fi, err := os.Stat(source)
	if err != nil {
		return err
	}
	if fi.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else {
		err = os.WriteFile(target, nil, 0o644)
	}
	if err != nil {
		return err
	}
	if mounted, err := mountinfo.Mounted(target); mounted || err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	if readOnly {
		return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	return nil
}

func unbind(target string) error {
	mounted, err := mountinfo.Mounted(target)
	if errors.Is(err, os.ErrNotExist) || err == nil && !mounted {
		return nil
	}
	if err != nil {
		return err
	}
	return unix.Unmount(target, 0)
}

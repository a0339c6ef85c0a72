package csi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
)

// ErrNotMeasured says that a volume's driver does not tell what it occupies.
var ErrNotMeasured = errors.New("the driver does not tell what its volumes occupy")

// spaceTimeout is how long a driver may take to tell what a volume occupies.
const spaceTimeout = 2 * time.Minute

// Space asks the driver of a volume that is set up what it occupies (NodeGetVolumeStats).
func (m *Manager) Space(ctx context.Context, v Volume) (diskusage.Space, error) {
	ctx, cancel := context.WithTimeout(withMoved(ctx, v), spaceTimeout)
	defer cancel()
	d := v.data(m.cfg.NodeName)
	drv, err := m.driver(d.Driver)
	if err != nil {
		return diskusage.Space{}, err
	}
	if have, err := peek(v.Dir); err != nil || !have.Ready || have.key() != d.key() {
		return diskusage.Space{}, ErrNotMeasured // it is not set up
	}
	if can, err := drv.can(ctx, csipb.NodeServiceCapability_RPC_GET_VOLUME_STATS); err != nil || !can {
		return diskusage.Space{}, cmp.Or(err, ErrNotMeasured)
	}
	staging := ""
	if stages, err := drv.can(ctx, csipb.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME); err == nil && stages && v.PV != nil {
		_, staging = m.stagedDir(d, v.Block)
	}
	r, err := drv.NodeGetVolumeStats(ctx, &csipb.NodeGetVolumeStatsRequest{VolumeId: d.Handle, VolumePath: m.Target(v), StagingTargetPath: staging})
	if err != nil {
		return diskusage.Space{}, fmt.Errorf("ask driver %s what volume %s occupies: %w", d.Driver, v.Name, err)
	}
	s := diskusage.Space{At: time.Now()}
	for _, u := range r.GetUsage() {
		switch u.GetUnit() {
		case csipb.VolumeUsage_BYTES:
			s.Capacity, s.Available, s.Used = amount(u.Total), amount(u.Available), amount(u.Used)
		case csipb.VolumeUsage_INODES:
			s.Inodes, s.InodesFree, s.InodesUsed = amount(u.Total), amount(u.Available), amount(u.Used)
		}
	}
	return s, nil
}

// amount is what a driver says, which must not be negative.
func amount(n int64) *uint64 {
	u := uint64(max(n, 0))
	return &u
}

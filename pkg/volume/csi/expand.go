package csi

import (
	"context"
	"errors"
	"fmt"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
)

// What an error of Expand may be, beside one that says nothing more than that it failed.
var (
	// ErrExpandUnsupported: the driver does not grow volumes on nodes.
	ErrExpandUnsupported = errors.New("NodeExpand is not supported by the CSI driver")
	// ErrInUse: the driver does not grow a volume that a pod has.
	ErrInUse = errors.New("the volume is in use")
	// ErrInfeasible: the driver will never be able to.
	ErrInfeasible = errors.New("the size is not feasible")
	// ErrUnfinished: the driver may still be at it, or was not reached at all.
	ErrUnfinished = errors.New("the driver may not have finished")
	// ErrNotPublished: the pod does not have the volume (any more).
	ErrNotPublished = errors.New("the volume is not published")
)

// expandError adds what an error means without changing its text.
type expandError struct{ cause, kind error }

// Error implements error.
func (e *expandError) Error() string { return e.cause.Error() }

// Unwrap returns the cause and what it means.
func (e *expandError) Unwrap() []error { return []error{e.cause, e.kind} }

// Expand has the driver grow a volume that the pod has to at least size bytes: what lies on the
// volume, since the volume itself has grown. It can be repeated. No other call about the volume is
// made meanwhile. Errors are in the kubelet's words.
func (m *Manager) Expand(ctx context.Context, v Volume, size int64) error {
	ctx = withMoved(ctx, v)
	now := v.data(m.cfg.NodeName)
	d, err := m.driver(now.Driver)
	if err != nil {
		return &expandError{err, ErrUnfinished}
	}
	unlock, err := m.locks.Lock(ctx, now.key())
	if err != nil {
		return &expandError{err, ErrUnfinished}
	}
	defer unlock()
	if v.Block {
		now.Target = m.Target(v)
	}
	if !m.isReady(v, now) {
		return ErrNotPublished
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, fmt.Errorf("no answer of driver %s within %v", d.name, callTimeout))
	defer cancel()
	r, err := m.expandRequest(ctx, d, v, now, size)
	if err != nil {
		return err
	}
	answer, err := d.NodeExpandVolume(ctx, r)
	if err != nil {
		return expandFailure(err)
	}
	if n := answer.CapacityBytes; n > 0 && n < size { // some count only what files can have
		klog.InfoS("A driver says that a volume is smaller than it was asked for; it is believed that it has done what it could",
			"driver", d.name, "volume", now.Handle, "bytes", n, "askedBytes", size)
	}
	klog.V(2).InfoS("Expanded volume", "driver", d.name, "volume", now.Handle, "bytes", size)
	return nil
}

func (m *Manager) expandRequest(ctx context.Context, d *driver, v Volume, now data, size int64) (*csipb.NodeExpandVolumeRequest, error) {
	can, err := d.can(ctx, csipb.NodeServiceCapability_RPC_EXPAND_VOLUME)
	if err != nil {
		return nil, &expandError{fmt.Errorf("Expander.NodeExpand failed to check if node supports expansion : %w", err), ErrUnfinished}
	}
	if !can {
		return nil, fmt.Errorf("%w %s", ErrExpandUnsupported, d.name)
	}
	ref := v.PV.Spec.CSI.NodeExpandSecretRef
	secrets, err := m.secret(ctx, ref)
	if err != nil {
		return nil, &expandError{fmt.Errorf("expander.NodeExpand failed to get NodeExpandSecretRef %s/%s: %w", ref.Namespace, ref.Name, err), ErrUnfinished}
	}
	capability, err := d.capability(ctx, v, nil)
	if err != nil {
		return nil, &expandError{err, ErrUnfinished}
	}
	stages, err := d.can(ctx, csipb.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME)
	if err != nil {
		return nil, &expandError{err, ErrUnfinished}
	}
	r := &csipb.NodeExpandVolumeRequest{
		VolumeId: now.Handle, VolumePath: m.Target(v), CapacityRange: &csipb.CapacityRange{RequiredBytes: size},
		VolumeCapability: capability, Secrets: secrets,
	}
	if stages {
		_, r.StagingTargetPath = m.stagedDir(now, v.Block)
	}
	return r, nil
}

// expandFailure says what an answer of NodeExpandVolume means, by the specification.
func expandFailure(err error) error {
	failed := fmt.Errorf("Expander.NodeExpand failed to expand the volume : %w", err)
	s, _ := status.FromError(err)
	switch s.Code() {
	case codes.FailedPrecondition:
		return &expandError{failed, ErrInUse}
	case codes.InvalidArgument, codes.OutOfRange, codes.NotFound:
		return &expandError{failed, ErrInfeasible}
	}
	if !finished(err) {
		return &expandError{failed, ErrUnfinished}
	}
	return failed
}

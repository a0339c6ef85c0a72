package csi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	authentication "k8s.io/api/authentication/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// Target is where a volume is once it is set up.
func (m *Manager) Target(v Volume) string {
	if v.Block {
		return filepath.Join(m.cfg.Root, pluginDir, "volumeDevices", "publish", v.Name, string(v.Pod.UID))
	}
	return filepath.Join(v.Dir, "mount")
}

// RepublishError is why a volume that a pod already has could not be published again;
// it stays as it was.
type RepublishError struct{ err error }

// Error implements error.
func (e *RepublishError) Error() string { return fmt.Sprintf("publish anew: %v", e.err) }

// Unwrap returns the cause.
func (e *RepublishError) Unwrap() error { return e.err }

// SetUp stages and publishes a volume, or finds that done. If its driver asks for it,
// the volume is published again at every call, and a failure of that is a
// RepublishError. Errors are in the kubelet's words.
func (m *Manager) SetUp(ctx context.Context, v Volume) error {
	ctx = withMoved(ctx, v)
	now := v.data(m.cfg.NodeName)
	if v.Block {
		now.Target = m.Target(v)
	}
	ready := m.isReady(v, now)
	o, err := m.info(ctx, now.Driver)
	if ready && (err != nil || o == nil || !is(o.Spec.RequiresRepublish, false)) {
		return nil // even before the driver has registered with a new agent
	}
	if err == nil {
		err = m.setUp(ctx, v, now, o, ready)
	}
	if err != nil && ready {
		return &RepublishError{err}
	}
	return err
}

func (m *Manager) setUp(ctx context.Context, v Volume, now data, o *storage.CSIDriver, ready bool) error {
	d, err := m.driver(now.Driver)
	if err != nil {
		return err
	}
	if err := checkMode(d.name, o, v.mode()); err != nil {
		return err
	}
	unlock, err := m.locks.Lock(ctx, now.key())
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, fmt.Errorf("no answer of driver %s within %v", d.name, callTimeout))
	defer cancel()
	p := &publishing{m: m, d: d, o: o, v: v, now: now}
	if group, err := d.can(ctx, csipb.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP); err != nil {
		return err
	} else if group {
		p.group = v.group()
	}
	if v.PV != nil {
		if err := p.stage(ctx, ready); err != nil {
			return err
		}
	}
	return p.publish(ctx, ready)
}

// isReady reports whether an earlier call, perhaps by an earlier agent, has finished.
func (m *Manager) isReady(v Volume, now data) bool {
	have, err := load(v.Dir)
	if err != nil || !have.Ready || have.key() != now.key() {
		return false
	}
	if dir, _ := m.stagedDir(now, v.Block); v.PV != nil && lost(dir) {
		return false // without a record of it, it would stay staged for ever
	}
	mounted, err := mountinfo.Mounted(m.Target(v))
	return err == nil && mounted
}

// publishing is a SetUp in progress.
type publishing struct {
	m       *Manager
	d       *driver
	o       *storage.CSIDriver
	v       Volume
	now     data
	group   *int64 // for the driver to apply
	staging string
	context map[string]string // what attaching returned
}

// stage waits until the volume is attached, and stages it for all its pods. again
// means that the volume is already published: only what publish needs is filled in.
func (p *publishing) stage(ctx context.Context, again bool) error {
	m, d := p.m, p.d
	if attaches(p.o) {
		if err := m.cfg.Use(ctx, p.now.uniqueName()); err != nil {
			return fmt.Errorf("report volume in use: %w", err)
		}
		var err error
		if p.context, err = m.attached(ctx, d, p.now); err != nil {
			return err
		}
	}
	stages, err := d.can(ctx, csipb.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME)
	if err != nil || !stages {
		return err
	}
	dir, staging := m.stagedDir(p.now, p.v.Block)
	p.staging = staging
	if again {
		return nil
	}
	ref := p.v.stageSecret()
	secrets, err := m.secret(ctx, ref)
	if err != nil {
		return fmt.Errorf("fetching NodeStageSecretRef %s/%s failed: %w", ref.Namespace, ref.Name, err)
	}
	capability, err := d.capability(ctx, p.v, p.group)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(staging, 0o750); err != nil {
		return err
	}
	_, before := load(dir)
	made := absent(before) && !lost(dir)
	record := p.now
	record.Target, record.Staging, record.Name = "", staging, ""
	if err := record.save(dir); err != nil {
		return err
	}
	_, err = d.NodeStageVolume(ctx, &csipb.NodeStageVolumeRequest{
		VolumeId: p.now.Handle, PublishContext: p.context, StagingTargetPath: staging, VolumeCapability: capability,
		Secrets: secrets, VolumeContext: p.v.attributes(false),
	})
	if err != nil {
		// Where there was a record, the volume was staged before and not unstaged yet.
		if finished(err) && made && !m.isPublished(p.now) && removeIfUnmounted(staging) == nil {
			_ = forget(dir)
		}
		return fmt.Errorf("MountVolume.MountDevice failed: %w", err)
	}
	klog.V(2).InfoS("Staged volume", "driver", d.name, "volume", p.now.Handle, "path", staging)
	return nil
}

// publish makes the volume visible to the pod.
func (p *publishing) publish(ctx context.Context, again bool) error {
	target := p.m.Target(p.v)
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	ref := p.v.publishSecret()
	secrets, err := p.m.secret(ctx, ref)
	if err != nil {
		return fmt.Errorf("fetching NodePublishSecretRef %s/%s failed: %w", ref.Namespace, ref.Name, err)
	}
	attributes := p.v.attributes(p.o != nil && is(p.o.Spec.PodInfoOnMount, false))
	tokens, err := p.tokens(ctx)
	if err != nil {
		return fmt.Errorf("failed to get service account token attributes: %w", err)
	}
	if p.o != nil && is(p.o.Spec.ServiceAccountTokenInSecrets, false) {
		if secrets == nil {
			secrets = map[string]string{}
		}
		maps.Copy(secrets, tokens)
	} else {
		maps.Copy(attributes, tokens)
	}
	capability, err := p.d.capability(ctx, p.v, p.group)
	if err != nil {
		return err
	}
	record := p.now
	record.Ready = again
	if err := record.save(p.v.Dir); err != nil {
		return err
	}
	_, err = p.d.NodePublishVolume(ctx, &csipb.NodePublishVolumeRequest{
		VolumeId: p.now.Handle, PublishContext: p.context, StagingTargetPath: p.staging, TargetPath: target,
		VolumeCapability: capability, Readonly: p.v.ReadOnly, Secrets: secrets, VolumeContext: attributes,
	})
	if err != nil {
		// A pod that has the volume keeps it: publishing may work the next time.
		if finished(err) && !again && removeIfUnmounted(target) == nil {
			_ = forget(p.v.Dir)
		}
		return err
	}
	if again {
		return nil
	}
	if _, err := os.Lstat(target); err != nil { // else a container would have an empty directory for it
		return fmt.Errorf("driver %s says that the volume is published, but there is nothing at %s: %w", p.d.name, target, err)
	}
	if p.group == nil && p.v.groupByNode(p.o) {
		if err := p.v.SetGroup(ctx, target); err != nil {
			return fmt.Errorf("applyFSGroup failed for vol %s: %w", p.now.Handle, err)
		}
	}
	record.Ready = true
	if err := record.save(p.v.Dir); err != nil {
		return err
	}
	klog.V(2).InfoS("Published volume", "driver", p.d.name, "volume", p.now.Handle, "pod", klog.KObj(p.v.Pod), "podUID", p.v.Pod.UID)
	return nil
}

// tokens returns the tokens of the pod's service account that the driver asks for.
func (p *publishing) tokens(ctx context.Context) (map[string]string, error) {
	if p.o == nil || len(p.o.Spec.TokenRequests) == 0 {
		return nil, nil
	}
	if p.m.cfg.Token == nil {
		return nil, errors.New("this node issues none")
	}
	all := map[string]authentication.TokenRequestStatus{}
	for _, r := range p.o.Spec.TokenRequests {
		var seconds int64
		if r.ExpirationSeconds != nil {
			seconds = *r.ExpirationSeconds
		}
		s, err := p.m.cfg.Token(ctx, p.v.Pod, r.Audience, seconds)
		if err != nil {
			return nil, err
		}
		all[r.Audience] = s
	}
	b, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	return map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": string(b)}, nil
}

// How often an attachment is polled: the Node authorizer permits no watch.
const (
	attachLook    = 500 * time.Millisecond
	maxAttachLook = 7 * time.Second
)

// attached waits until the controller has attached the volume to this node, and
// returns what the controller's driver says about the attachment. If for a while the node has no
// room for another volume, and its driver has the limits kept current, the error is a
// *pods.Rejection: elsewhere the pod may start.
func (m *Manager) attached(ctx context.Context, drv *driver, d data) (map[string]string, error) {
	full := fullNode{m: m, driver: drv}
	for wait := attachLook; ; wait = min(wait+wait/4, maxAttachLook) {
		a, err := m.cfg.Client.StorageV1().VolumeAttachments().Get(ctx, d.AttachmentID, metav1.GetOptions{})
		switch {
		case ctx.Err() != nil:
		case err == nil && a.DeletionTimestamp != nil:
			return nil, errors.New("volume attachment is being deleted")
		case err == nil && a.Status.Attached:
			return a.Status.AttachmentMetadata, nil
		case err == nil && full.is(ctx, a):
			if full.tooLong() {
				return nil, full.rejection(d, a)
			}
		case err == nil && a.Status.AttachError != nil:
			return nil, errors.New(a.Status.AttachError.Message)
		case err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err):
			return nil, fmt.Errorf("volume %s has GET error for volume attachment %s: %w", d.Handle, d.AttachmentID, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("timed out waiting for external-attacher of %s CSI driver to attach volume %s", d.Driver, d.Handle)
		case <-time.After(wait):
		}
	}
}

// removeIfUnmounted removes an empty directory or file if nothing is mounted at it.
// The specification wants drivers to do so; not all do.
func removeIfUnmounted(p string) error {
	mounted, err := mountinfo.Mounted(p)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if mounted {
		return fmt.Errorf("%s is still mounted", p)
	}
	if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

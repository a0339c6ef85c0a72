package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/ephemeral"
	storage "k8s.io/component-helpers/storage/volume"
	"k8s.io/klog/v2"
	mount "k8s.io/mount-utils"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Claims gives the persistent volume claims that pods name, and the persistent
// volumes that those are bound to. It is asked until a pod is set up, not at every
// sync: a pod that has a volume keeps it, whatever becomes of the claim. For a
// missing object the error satisfies apierrors.IsNotFound.
type Claims interface {
	Claim(ctx context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error)
	Volume(ctx context.Context, name string) (*v1.PersistentVolume, error)
	// Secret returns a secret that such a volume names.
	Secret(ctx context.Context, namespace, name string) (*v1.Secret, error)
}

var errNoClaims = errors.New("this node has no source of PersistentVolumeClaims")

// claimed is a volume given by a claim: its persistent volume says what it is.
type claimed struct {
	m   *Manager
	pod *v1.Pod
	v   *v1.Volume
}

func (c *claimed) path() Path {
	pv := c.m.boundTo(c.pod.UID, c.v.Name)
	if pv == nil {
		return Path{}
	}
	k, err := c.m.persistent(c.pod, c.v, pv)
	if err != nil {
		return Path{}
	}
	return k.path()
}

func (c *claimed) setUp(ctx context.Context) error {
	pv := c.m.boundTo(c.pod.UID, c.v.Name)
	var err error
	if pv == nil {
		if pv, err = c.m.keptBinding(c.pod.UID, c.v.Name); err != nil {
			return err
		}
	}
	var claim *v1.PersistentVolumeClaim
	half := pv != nil && c.m.isUngrown(c.pod.UID, c.v.Name) // mounted, but still to be enlarged
	first := pv == nil || half
	if first {
		before := pv
		if pv, claim, err = c.m.bound(ctx, c.pod, c.v); err != nil {
			return err
		}
		if half && pv.Name != before.Name {
			return fmt.Errorf("the claim is bound to %s now, while the pod has %s mounted", pv.Name, before.Name)
		}
	}
	k, err := c.m.persistent(c.pod, c.v, pv)
	if err != nil {
		return err
	}
	if exclusive(pv) {
		if err := c.m.readUnread(c.pod.UID); err != nil {
			return err
		}
	}
	if err := c.m.bind(c.pod.UID, c.v.Name, pv); err != nil {
		return err
	}
	if err := k.setUp(ctx); err != nil {
		if first && !half {
			c.m.unbind(c.pod.UID, c.v.Name) // next time it may be another volume
		}
		c.m.tellMismatch(pv, err)
		return mapping(k, pv.Name, err)
	}
	if p := k.path(); first && !half && p.Block {
		c.m.normal(c.pod, "SuccessfulMountVolume", fmt.Sprintf("MapVolume.MapPodDevice succeeded for volume %q volumeMapPath %q", pv.Name, p.Host))
	}
	u := user{c.pod, c.v}
	if first {
		err := c.m.growth.atMount(ctx, u, pv, claim)
		c.m.setUngrown(c.pod.UID, c.v.Name, err != nil)
		if err != nil {
			return err
		}
		if err := c.m.keepBinding(c.pod.UID, c.v.Name, pv); err != nil {
			return err
		}
	}
	c.m.growth.seen(u, pv)
	return nil
}

// MapError is why a pod could not get a volume as a block device.
type MapError struct {
	volume string
	err    error
}

// Error implements error, in the kubelet's words.
func (e *MapError) Error() string {
	return fmt.Sprintf("MapVolume.MapPodDevice failed for volume %q : %v", e.volume, e.err)
}

// Unwrap returns the cause.
func (e *MapError) Unwrap() error { return e.err }

// FailureReason is the kubelet's reason for the event of a SetUp that has failed: FailedMapVolume if a block device is all
// that the pod lacks, else "".
func FailureReason(err error) string {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, e := range all {
		var device *MapError
		if !errors.As(e, &device) {
			return ""
		}
	}
	return "FailedMapVolume"
}

// mapping makes an error of setting up a block device a MapError.
func mapping(k kind, volume string, err error) error {
	if k.path().Block {
		return &MapError{volume, err}
	}
	return err
}

// tellMismatch tells a persistent volume that its disk has another file system than it says.
func (m *Manager) tellMismatch(pv *v1.PersistentVolume, err error) {
	var failed mount.MountError
	if m.volumeEvent != nil && errors.As(err, &failed) && failed.Type == mount.FilesystemMismatch {
		m.volumeEvent(pv, v1.EventTypeWarning, "FailedMountOnFilesystemMismatch", fmt.Sprintf("MountVolume failed for volume %q %v", pv.Name, err))
	}
}

// bound returns the persistent volume that the pod's volume is bound to, and by which claim, if
// the pod may have it on this node; otherwise an error in the kubelet's words.
func (m *Manager) bound(ctx context.Context, pod *v1.Pod, v *v1.Volume) (*v1.PersistentVolume, *v1.PersistentVolumeClaim, error) {
	if m.claims == nil {
		return nil, nil, errNoClaims
	}
	name := ClaimName(pod, v)
	fail := func(err error) (*v1.PersistentVolume, *v1.PersistentVolumeClaim, error) {
		return nil, nil, fmt.Errorf("error processing PVC %s/%s: %w", pod.Namespace, name, err)
	}
	claim, err := m.claims.Claim(ctx, pod.Namespace, name)
	if err != nil {
		return fail(err)
	}
	if err := checkClaim(claim); err != nil {
		return fail(err)
	}
	if v.Ephemeral != nil {
		if err := ephemeral.VolumeIsForPod(pod, claim); err != nil {
			return nil, nil, err
		}
	}
	pv, err := m.claims.Volume(ctx, claim.Spec.VolumeName)
	if err != nil {
		return fail(err)
	}
	if err := checkBinding(pv, claim.UID); err != nil {
		return fail(err)
	}
	if err := checkMode(pod, v.Name, modeOfVolume(pv)); err != nil {
		return nil, nil, err
	}
	if err := storage.CheckNodeAffinity(pv, m.nodeLabels()); err != nil {
		return nil, nil, fmt.Errorf("MountVolume.NodeAffinity check failed: %w", err)
	}
	return pv, claim, nil
}

// ClaimName is the claim of a volume, named in it or generated for the pod; "" if it
// has none.
func ClaimName(pod *v1.Pod, v *v1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return ephemeral.VolumeClaimName(pod, v)
	}
	return ""
}

// protection keeps a claim that is being deleted while a pod uses it.
const protection = "kubernetes.io/pvc-protection"

// checkClaim returns why a pod cannot use a claim.
func checkClaim(c *v1.PersistentVolumeClaim) error {
	switch {
	case c.DeletionTimestamp != nil && !slices.Contains(c.Finalizers, protection):
		return errors.New("PVC is being deleted")
	case c.Status.Phase != v1.ClaimBound:
		return errors.New("PVC is not bound")
	case c.Spec.VolumeName == "":
		return errors.New("PVC has empty pvc.Spec.VolumeName")
	}
	return nil
}

// checkBinding returns why a volume does not belong to the claim.
func checkBinding(pv *v1.PersistentVolume, claim types.UID) error {
	switch ref := pv.Spec.ClaimRef; {
	case ref == nil:
		return fmt.Errorf("found PV object %s but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim", pv.Name)
	case ref.UID != claim:
		return fmt.Errorf("found PV object %s but its pv.Spec.ClaimRef.UID %s does not point to claim.UID %s", pv.Name, ref.UID, claim)
	}
	return nil
}

func modeOfVolume(pv *v1.PersistentVolume) v1.PersistentVolumeMode {
	if pv.Spec.VolumeMode == nil {
		return v1.PersistentVolumeFilesystem
	}
	return *pv.Spec.VolumeMode
}

// checkMode refuses a block device used as a file system, and the other way round.
func checkMode(pod *v1.Pod, name string, mode v1.PersistentVolumeMode) error {
	mounts, devices := uses(pod, name)
	switch {
	case mounts && mode != v1.PersistentVolumeFilesystem:
		return fmt.Errorf("volume %s has volumeMode %s, but is specified in volumeMounts", name, mode)
	case devices && mode != v1.PersistentVolumeBlock:
		return fmt.Errorf("volume %s has volumeMode %s, but is specified in volumeDevices", name, mode)
	}
	return nil
}

// uses reports how the pod's containers use a volume.
func uses(pod *v1.Pod, name string) (mounts, devices bool) {
	for _, c := range pods.AllContainers(pod) {
		mounts = mounts || slices.ContainsFunc(c.VolumeMounts, func(m v1.VolumeMount) bool { return m.Name == name })
		devices = devices || slices.ContainsFunc(c.VolumeDevices, func(d v1.VolumeDevice) bool { return d.Name == name })
	}
	return mounts, devices
}

// boundTo is the persistent volume that was found for a pod's volume, nil if none
// was yet.
func (m *Manager) boundTo(uid types.UID, name string) *v1.PersistentVolume {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bindings[uid][name]
}

// loadBindings reads what the volumes of pods were bound to by earlier agents: no other pod may
// have what they still hold. Of a pod whose records cannot be read it is not known; the node goes
// on, and what only one pod may have waits for them.
func (m *Manager) loadBindings() error {
	uids, err := m.layout.withBindings()
	if err != nil {
		return err
	}
	for _, uid := range uids {
		m.unread[uid] = true
	}
	for _, uid := range uids {
		if err := m.readBindings(uid); err != nil {
			klog.ErrorS(err, "No other pod gets a ReadWriteOncePod volume until this pod's records can be read, or the pod is gone", "podUID", uid)
		}
	}
	return nil
}

// readBindings takes in what is on record of a pod, unless that was done or the pod is gone.
func (m *Manager) readBindings(uid types.UID) error {
	all, err := m.layout.keptBindings(uid)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.unread[uid] {
		return nil
	}
	delete(m.unread, uid)
	for name, pv := range all {
		if err := m.bindLocked(uid, name, pv); err != nil {
			klog.ErrorS(err, "Two pods have a volume that only one may have", "podUID", uid, "volume", name)
		}
	}
	return nil
}

// withBindings are the pods that may have records of earlier agents.
func (l layout) withBindings() ([]types.UID, error) {
	entries, err := entriesOf(l.pods())
	var uids []types.UID
	for _, e := range entries {
		uids = append(uids, types.UID(e.Name()))
	}
	return uids, err
}

// keptBindings are what earlier agents have recorded of a pod, by volume. Every file is looked
// at, so that what is damaged is told once, when the agent starts. A record that may be there
// and cannot be read is an error: what it names is held.
func (l layout) keptBindings(uid types.UID) (map[string]*v1.PersistentVolume, error) {
	dir := filepath.Join(l.pods(), string(uid), claimsDir)
	files, err := entriesOf(dir)
	if err != nil {
		return nil, err
	}
	all := map[string]*v1.PersistentVolume{}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			continue
		}
		pv, err := l.readBinding(uid, name)
		if err != nil {
			return nil, err
		}
		if pv != nil {
			all[name] = pv
		}
	}
	return all, nil
}

// entriesOf lists a directory; what is none, or is not there, has no entries.
func entriesOf(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if noDirectory(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look which persistent volumes pods have: %w", err)
	}
	return entries, nil
}

// noDirectory reports whether there is nothing below a path because it, or something above
// it, is missing or no directory.
func noDirectory(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// Held returns the persistent volumes that pods below root ("" is DefaultRoot) were set up
// with by earlier agents. An error means that they may hold others.
func Held(root string) ([]*v1.PersistentVolume, error) {
	if root == "" {
		root = DefaultRoot
	}
	l := layout{root: root}
	uids, err := l.withBindings()
	if err != nil {
		return nil, err
	}
	var held []*v1.PersistentVolume
	for _, uid := range uids {
		all, err := l.keptBindings(uid)
		if err != nil {
			return nil, err
		}
		held = slices.AppendSeq(held, maps.Values(all))
	}
	return held, nil
}

// exclusive reports whether one pod alone may have a volume.
func exclusive(pv *v1.PersistentVolume) bool {
	return slices.Contains(pv.Spec.AccessModes, v1.ReadWriteOncePod)
}

// readUnread tries the records again that could not be read. An error means that another pod than
// this one may have any volume.
func (m *Manager) readUnread(uid types.UID) error {
	m.mu.Lock()
	unread := slices.Collect(maps.Keys(m.unread))
	m.mu.Unlock()
	for _, other := range unread {
		if other == uid {
			continue
		}
		if err := m.readBindings(other); err != nil {
			return fmt.Errorf("volume uses the ReadWriteOncePod access mode and may be in use by another pod: %w", err)
		}
	}
	return nil
}

// bind records which persistent volume a pod's volume is, until the pod is torn
// down. A volume with access mode ReadWriteOncePod is given to one pod at a time.
func (m *Manager) bind(uid types.UID, name string, pv *v1.PersistentVolume) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bindLocked(uid, name, pv)
}

func (m *Manager) bindLocked(uid types.UID, name string, pv *v1.PersistentVolume) error {
	if exclusive(pv) {
		for other, volumes := range m.bindings {
			for _, have := range volumes {
				if other != uid && have.Name == pv.Name {
					return errors.New("volume uses the ReadWriteOncePod access mode and is already in use by another pod")
				}
			}
		}
	}
	if m.bindings[uid] == nil {
		m.bindings[uid] = map[string]*v1.PersistentVolume{}
	}
	m.bindings[uid][name] = pv
	return nil
}

// unbind forgets a binding whose volume was not set up.
func (m *Manager) unbind(uid types.UID, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.bindings[uid], name)
}

// claimFile is the file that records which persistent volume a pod's volume is: an
// agent that restarts gives the pod the same one, and needs neither claim nor API
// server.
func (m *Manager) claimFile(uid types.UID, name string) (string, error) {
	dir, err := m.layout.pod(uid)
	if err != nil {
		return "", err
	}
	if err := element("volume name", name); err != nil {
		return "", err
	}
	return filepath.Join(dir, claimsDir, name+".json"), nil
}

func (m *Manager) keepBinding(uid types.UID, name string, pv *v1.PersistentVolume) error {
	file, err := m.claimFile(uid, name)
	if err != nil {
		return err
	}
	kept := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: pv.Name}, Spec: pv.Spec}
	if gid, set := pv.Annotations[gidAnnotation]; set {
		kept.Annotations = map[string]string{gidAnnotation: gid}
	}
	text, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	if err := durable.Dir(filepath.Dir(file), "Which persistent volumes a pod has."); err != nil && !errors.Is(err, durable.ErrDamaged) {
		return err
	}
	return durable.Write(file, text)
}

// keptBinding is what an earlier agent has recorded; nil if it has not.
func (m *Manager) keptBinding(uid types.UID, name string) (*v1.PersistentVolume, error) {
	if _, err := m.claimFile(uid, name); err != nil {
		return nil, err
	}
	return m.layout.readBinding(uid, name)
}

// readBinding reads one record; nil if it is not there or was damaged. Any other error says
// nothing about the record: the pod may hold the volume, and no other.
func (l layout) readBinding(uid types.UID, name string) (*v1.PersistentVolume, error) {
	pv := &v1.PersistentVolume{}
	lost := fmt.Sprintf("Which persistent volume the volume %q of the pod %s is. What its claim is bound to now takes its place.", name, uid)
	err := durable.LoadIn(l.pods(), filepath.Join(string(uid), claimsDir, name+".json"), lost, func(text []byte) error {
		if err := json.Unmarshal(text, pv); err != nil {
			return err
		}
		if pv.Name == "" {
			return errors.New("it names no volume")
		}
		return nil
	})
	switch {
	case err == nil:
		return pv, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case noDirectory(err), errors.Is(err, safefile.ErrLink): // keepBinding makes the directory
		klog.ErrorS(err, "Something is in the place of the records of which persistent volumes a pod has", "podUID", uid, "volume", name)
		return nil, nil
	}
	return nil, fmt.Errorf("read which persistent volume pod %s has as %q: %w", uid, name, err)
}

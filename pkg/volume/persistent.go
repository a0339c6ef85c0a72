package volume

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
)

// persistent returns a persistent volume as one of the pod's volumes. Like the
// kubelet, it names the directory after the persistent volume.
func (m *Manager) persistent(pod *v1.Pod, v *v1.Volume, pv *v1.PersistentVolume) (kind, error) {
	given := pv
	pv, err := moved(pv)
	if err != nil {
		return nil, err
	}
	readOnly := v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly
	dir := func(plugin string) (string, error) { return m.layout.volume(pod.UID, plugin, pv.Name) }
	block := modeOfVolume(pv) == v1.PersistentVolumeBlock
	switch s := &pv.Spec.PersistentVolumeSource; {
	case s.CSI != nil:
		return m.csiVolume(csi.Volume{Pod: pod, Name: pv.Name, PV: pv, Moved: pv != given, ReadOnly: readOnly, Block: block})
	case block && s.Local == nil:
		return nil, fmt.Errorf("volumeMode Block is supported by this node for volumes of type local and csi only, not for %s", sourceName(s))
	case s.HostPath != nil && len(pv.Spec.MountOptions) > 0:
		return nil, errors.New("MountVolume.MountOptionSupport check failed: mount options are not supported for this volume type")
	case s.HostPath != nil:
		return &hostPath{source: s.HostPath, readOnly: readOnly}, nil
	case s.Local != nil && block:
		return &device{node: s.Local.Path, readOnly: readOnly}, nil
	case s.Local != nil:
		d, err := dir(localPlugin)
		return &local{m: m, pod: pod, pv: pv, dir: d, readOnly: readOnly}, err
	case s.NFS != nil:
		d, err := dir("kubernetes.io/nfs")
		return &nfs{m: m, source: s.NFS, dir: d, readOnly: readOnly, options: pv.Spec.MountOptions}, err
	case s.ISCSI != nil:
		d, err := dir(iscsiPlugin)
		i := s.ISCSI
		return &iscsi{
			m: m, pod: pod, disk: newISCSIDisk(i.TargetPortal, i.Portals, i.IQN, i.Lun, i.ISCSIInterface), fsType: i.FSType, readOnly: readOnly,
			dir: d, options: pv.Spec.MountOptions, chapDiscovery: i.DiscoveryCHAPAuth, chapSession: i.SessionCHAPAuth, initiator: ptr.Deref(i.InitiatorName, ""),
			secret: m.volumeSecret(i.SecretRef),
		}, err
	default:
		return nil, fmt.Errorf("persistent volumes of type %s are not supported by this node", sourceName(s))
	}
}

// sourceName is the type of a persistent volume.
func sourceName(s *v1.PersistentVolumeSource) string {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			return v.Type().Field(i).Name
		}
	}
	return "none"
}

// volumeSecret returns a function that gets the secret a persistent volume names;
// nil if it names none.
func (m *Manager) volumeSecret(ref *v1.SecretReference) func(context.Context) (*v1.Secret, error) {
	if ref == nil {
		return nil
	}
	return func(ctx context.Context) (*v1.Secret, error) { return m.claims.Secret(ctx, ref.Namespace, ref.Name) }
}

var errNotSetUp = errors.New("it is not set up")

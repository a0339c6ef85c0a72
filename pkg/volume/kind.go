package volume

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// kind is one volume of one pod, of one type.
type kind interface {
	// setUp makes the volume or finds it made. It can be repeated after a crash at any
	// point. It may hang where the kernel hangs, but ctx ends it between steps.
	setUp(ctx context.Context) error
	// path is where the volume is once it is set up.
	path() Path
}

// kind returns the volume as the type that its source names, or why this node
// cannot have it. No other place knows all types.
func (m *Manager) kind(pod *v1.Pod, v *v1.Volume) (kind, error) {
	dir := func(plugin string) (string, error) { return m.layout.volume(pod.UID, plugin, v.Name) }
	switch s := v.VolumeSource; {
	case s.EmptyDir != nil:
		d, err := dir("kubernetes.io/empty-dir")
		return &emptyDir{pod: pod, source: s.EmptyDir, dir: d, allocatable: m.allocatable}, err
	case s.HostPath != nil:
		return &hostPath{source: s.HostPath}, nil
	case s.PersistentVolumeClaim != nil, s.Ephemeral != nil:
		return &claimed{m: m, pod: pod, v: v}, nil
	case s.NFS != nil:
		d, err := dir("kubernetes.io/nfs")
		return &nfs{m: m, source: s.NFS, dir: d, readOnly: s.NFS.ReadOnly}, err
	case s.ISCSI != nil:
		d, err := dir(iscsiPlugin)
		i := s.ISCSI
		k := &iscsi{
			m: m, pod: pod, disk: newISCSIDisk(i.TargetPortal, i.Portals, i.IQN, i.Lun, i.ISCSIInterface), fsType: i.FSType, readOnly: i.ReadOnly,
			dir: d, chapDiscovery: i.DiscoveryCHAPAuth, chapSession: i.SessionCHAPAuth, initiator: ptr.Deref(i.InitiatorName, ""),
		}
		if ref := i.SecretRef; ref != nil {
			if m.objects == nil {
				return nil, errNoSecrets
			}
			k.secret = func(ctx context.Context) (*v1.Secret, error) { return m.objects.Secret(ctx, pod.Namespace, ref.Name) }
		}
		return k, err
	case s.CSI != nil:
		return m.inlineCSI(pod, v.Name, s.CSI)
	case s.Image != nil:
		return image{}, nil
	case s.ConfigMap != nil:
		return m.files(pod, v.Name, "kubernetes.io/configmap", v1.StorageMediumDefault, s.ConfigMap.DefaultMode, func(ctx context.Context, c *content) (map[string]file, error) {
			return c.configMap(ctx, s.ConfigMap.Name, s.ConfigMap.Items, ptr.Deref(s.ConfigMap.Optional, false))
		})
	case s.Secret != nil:
		return m.files(pod, v.Name, "kubernetes.io/secret", v1.StorageMediumMemory, s.Secret.DefaultMode, func(ctx context.Context, c *content) (map[string]file, error) {
			return c.secret(ctx, s.Secret.SecretName, s.Secret.Items, ptr.Deref(s.Secret.Optional, false))
		})
	case s.DownwardAPI != nil:
		return m.files(pod, v.Name, "kubernetes.io/downward-api", v1.StorageMediumMemory, s.DownwardAPI.DefaultMode, func(_ context.Context, c *content) (map[string]file, error) {
			return c.downward(s.DownwardAPI.Items)
		})
	case s.Projected != nil:
		return m.files(pod, v.Name, "kubernetes.io/projected", v1.StorageMediumMemory, s.Projected.DefaultMode, func(ctx context.Context, c *content) (map[string]file, error) {
			return c.projected(ctx, s.Projected.Sources)
		})
	default:
		if k, err := m.movedInline(pod, v); k != nil || err != nil {
			return k, err
		}
		return nil, unsupported(&s)
	}
}

// files is a volume of the files that make returns.
func (m *Manager) files(pod *v1.Pod, name, plugin string, medium v1.StorageMedium, mode *int32, make func(context.Context, *content) (map[string]file, error)) (kind, error) {
	dir, err := m.layout.volume(pod.UID, plugin, name)
	if err != nil {
		return nil, err
	}
	c := &content{pod: pod, objects: m.objects, allocatable: m.allocatable, mode: modeOf(mode, 0o644)}
	return &writtenFiles{
		emptyDir: emptyDir{pod: pod, source: &v1.EmptyDirVolumeSource{Medium: medium}, dir: dir, allocatable: m.allocatable},
		m:        m, name: name, from: c, content: make,
	}, nil
}

func unsupported(s *v1.VolumeSource) error {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			return fmt.Errorf("volumes of type %s are not supported by this node", v.Type().Field(i).Name)
		}
	}
	return errors.New("the volume names no source")
}

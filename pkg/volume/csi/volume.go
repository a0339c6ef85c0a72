package csi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
)

// Volume is a CSI volume of a pod: inline (Inline) or persistent (PV).
type Volume struct {
	Pod    *v1.Pod
	Name   string // of the volume in the pod, or of the persistent volume
	Dir    string // pods/<uid>/volumes/kubernetes.io~csi/<name>
	Inline *v1.CSIVolumeSource
	PV     *v1.PersistentVolume
	// Moved says that PV was made from a volume of an in-tree driver.
	Moved bool
	// ReadOnly publishes the volume read-only.
	ReadOnly bool
	Block    bool
	// SetGroup gives the files below a directory to the pod's fsGroup.
	SetGroup func(ctx context.Context, dir string) error
}

func (v Volume) data(node string) data {
	d := data{Name: v.Name, Node: node, Mode: v.mode(), Driver: v.Driver(), Handle: "csi-" + hash(string(v.Pod.UID), v.Name)}
	if v.PV != nil {
		d.Handle = v.PV.Spec.CSI.VolumeHandle
		d.AttachmentID = attachmentName(d.Handle, d.Driver, node)
	}
	return d
}

// Driver is the name of the volume's driver.
func (v Volume) Driver() string {
	if v.PV != nil {
		return v.PV.Spec.CSI.Driver
	}
	return v.Inline.Driver
}

func (v Volume) mode() storage.VolumeLifecycleMode {
	if v.PV != nil {
		return storage.VolumeLifecyclePersistent
	}
	return storage.VolumeLifecycleEphemeral
}

func (v Volume) fsType() string {
	switch {
	case v.PV != nil:
		return v.PV.Spec.CSI.FSType
	case v.Inline.FSType != nil:
		return *v.Inline.FSType
	}
	return ""
}

func (v Volume) mountOptions() []string {
	if v.PV != nil {
		return v.PV.Spec.MountOptions
	}
	return nil
}

func (v Volume) accessMode() v1.PersistentVolumeAccessMode {
	if v.PV != nil && len(v.PV.Spec.AccessModes) > 0 {
		return v.PV.Spec.AccessModes[0]
	}
	return v1.ReadWriteOnce
}

// attributes are the volume's own, plus the pod's if the driver wants them.
func (v Volume) attributes(podInfo bool) map[string]string {
	all := map[string]string{}
	if v.PV != nil {
		maps.Copy(all, v.PV.Spec.CSI.VolumeAttributes)
	} else {
		maps.Copy(all, v.Inline.VolumeAttributes)
	}
	if podInfo {
		maps.Copy(all, map[string]string{
			"csi.storage.k8s.io/pod.name":            v.Pod.Name,
			"csi.storage.k8s.io/pod.namespace":       v.Pod.Namespace,
			"csi.storage.k8s.io/pod.uid":             string(v.Pod.UID),
			"csi.storage.k8s.io/serviceAccount.name": v.Pod.Spec.ServiceAccountName,
			"csi.storage.k8s.io/ephemeral":           strconv.FormatBool(v.PV == nil),
		})
	}
	return all
}

func (v Volume) stageSecret() *v1.SecretReference {
	if v.PV != nil {
		return v.PV.Spec.CSI.NodeStageSecretRef
	}
	return nil
}

func (v Volume) publishSecret() *v1.SecretReference {
	switch {
	case v.PV != nil:
		return v.PV.Spec.CSI.NodePublishSecretRef
	case v.Inline.NodePublishSecretRef != nil:
		return &v1.SecretReference{Name: v.Inline.NodePublishSecretRef.Name, Namespace: v.Pod.Namespace}
	}
	return nil
}

// checkMode returns why a driver cannot have a volume of that mode. Without a
// CSIDriver object it can have persistent ones only.
func checkMode(name string, o *storage.CSIDriver, mode storage.VolumeLifecycleMode) error {
	switch {
	case o == nil && mode == storage.VolumeLifecyclePersistent:
		return nil
	case o == nil:
		return fmt.Errorf("volume mode %q not supported by driver %s (no CSIDriver object)", mode, name)
	case slices.Contains(o.Spec.VolumeLifecycleModes, mode):
		return nil
	}
	return fmt.Errorf("volume mode %q not supported by driver %s (only supports %q)", mode, name, o.Spec.VolumeLifecycleModes)
}

// attaches reports whether the driver's volumes must be attached by the controller.
func attaches(o *storage.CSIDriver) bool { return o == nil || is(o.Spec.AttachRequired, true) }

// is returns the flag's value, or otherwise if it is not set.
func is(flag *bool, otherwise bool) bool {
	if flag == nil {
		return otherwise
	}
	return *flag
}

// groupByNode reports whether the node changes the group of the volume's files.
func (v Volume) groupByNode(o *storage.CSIDriver) bool {
	if v.ReadOnly || v.Block || v.group() == nil {
		return false
	}
	policy := storage.ReadWriteOnceWithFSTypeFSGroupPolicy
	if o != nil && o.Spec.FSGroupPolicy != nil && *o.Spec.FSGroupPolicy != "" {
		policy = *o.Spec.FSGroupPolicy
	}
	switch policy {
	case storage.NoneFSGroupPolicy:
		return false
	case storage.FileFSGroupPolicy:
		return true
	}
	if v.fsType() == "" {
		return false
	}
	return v.PV == nil || slices.Contains(v.PV.Spec.AccessModes, v1.ReadWriteOnce) || slices.Contains(v.PV.Spec.AccessModes, v1.ReadWriteOncePod)
}

func (v Volume) group() *int64 {
	if v.Pod.Spec.SecurityContext == nil {
		return nil
	}
	return v.Pod.Spec.SecurityContext.FSGroup
}

package volume

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	translation "k8s.io/csi-translation-lib"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
)

// moved returns a persistent volume of a type whose in-tree driver was replaced by a CSI driver
// (KEP-625: awsElasticBlockStore, azureDisk, azureFile, cinder, gcePersistentDisk, portworxVolume,
// vsphereVolume) as that driver's, and any other as it is.
func moved(pv *v1.PersistentVolume) (*v1.PersistentVolume, error) {
	t := translation.New()
	if !t.IsPVMigratable(pv) {
		return pv, nil
	}
	now, err := t.TranslateInTreePVToCSI(klog.Background(), pv)
	if err != nil {
		return nil, fmt.Errorf("failed to translate in-tree pv to CSI: %w", err)
	}
	if now.Spec.CSI == nil {
		return nil, fmt.Errorf("failed to translate in-tree pv to CSI: %s has no volume of a CSI driver then", sourceName(&pv.Spec.PersistentVolumeSource))
	}
	return now, nil
}

// isMoved reports whether a volume of a pod's own is of such a type.
func isMoved(v *v1.Volume) bool { return translation.New().IsInlineMigratable(v) }

// movedInline returns a volume of such a type that a pod's spec defines itself as its CSI driver's;
// nil if it is of another type.
func (m *Manager) movedInline(pod *v1.Pod, v *v1.Volume) (kind, error) {
	if !isMoved(v) {
		return nil, nil
	}
	pv, err := translation.New().TranslateInTreeInlineVolumeToCSI(klog.Background(), v, pod.Namespace)
	if err != nil {
		return nil, fmt.Errorf("failed to translate in-tree volume to CSI: %w", err)
	}
	if pv.Spec.CSI == nil {
		return nil, unsupported(&v.VolumeSource)
	}
	return m.csiVolume(csi.Volume{Pod: pod, Name: pv.Name, PV: pv, Moved: true, ReadOnly: pv.Spec.CSI.ReadOnly})
}

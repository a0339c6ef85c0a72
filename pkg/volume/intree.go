package volume

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	translation "k8s.io/csi-translation-lib"
	"k8s.io/klog/v2"
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

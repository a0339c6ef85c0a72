package manifest

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func defaultVolume(v *v1.Volume) {
	if ptr.AllPtrFieldsNil(&v.VolumeSource) {
		v.EmptyDir = &v1.EmptyDirVolumeSource{}
	}
	if s := v.HostPath; s != nil {
		defaultPointer(&s.Type, v1.HostPathUnset)
	}
	if s := v.Secret; s != nil {
		defaultPointer(&s.DefaultMode, v1.SecretVolumeSourceDefaultMode)
	}
	if s := v.ConfigMap; s != nil {
		defaultPointer(&s.DefaultMode, v1.ConfigMapVolumeSourceDefaultMode)
	}
	if s := v.DownwardAPI; s != nil {
		defaultPointer(&s.DefaultMode, v1.DownwardAPIVolumeSourceDefaultMode)
		defaultDownwardFiles(s.Items)
	}
	if s := v.Projected; s != nil {
		defaultPointer(&s.DefaultMode, v1.ProjectedVolumeSourceDefaultMode)
		for i := range s.Sources {
			if p := s.Sources[i].DownwardAPI; p != nil {
				defaultDownwardFiles(p.Items)
			}
			if p := s.Sources[i].ServiceAccountToken; p != nil {
				defaultPointer(&p.ExpirationSeconds, int64(60*60))
			}
		}
	}
	if s := v.Image; s != nil {
		defaultTo(&s.PullPolicy, pullPolicy(s.Reference))
	}
	if s := v.Ephemeral; s != nil && s.VolumeClaimTemplate != nil {
		defaultClaim(&s.VolumeClaimTemplate.Spec)
	}
	if s := v.ISCSI; s != nil {
		defaultTo(&s.ISCSIInterface, "default")
	}
	defaultRetiredVolume(v)
}

func defaultClaim(s *v1.PersistentVolumeClaimSpec) {
	defaultPointer(&s.VolumeMode, v1.PersistentVolumeFilesystem)
	roundUp(s.Resources.Limits)
	roundUp(s.Resources.Requests)
}

func defaultPersistentVolume(pv *v1.PersistentVolume) {
	defaultTo(&pv.Spec.PersistentVolumeReclaimPolicy, v1.PersistentVolumeReclaimRetain)
	defaultPointer(&pv.Spec.VolumeMode, v1.PersistentVolumeFilesystem)
	roundUp(pv.Spec.Capacity)
	if s := pv.Spec.HostPath; s != nil {
		defaultPointer(&s.Type, v1.HostPathUnset)
	}
	if s := pv.Spec.ISCSI; s != nil {
		defaultTo(&s.ISCSIInterface, "default")
	}
}

// defaultRetiredVolume is for volumes that no node mounts any more: a pod with one
// is refused, but until then it looks as at the API server.
func defaultRetiredVolume(v *v1.Volume) {
	if s := v.RBD; s != nil {
		defaultTo(&s.RBDPool, "rbd")
		defaultTo(&s.RadosUser, "admin")
		defaultTo(&s.Keyring, "/etc/ceph/keyring")
	}
	if s := v.AzureDisk; s != nil {
		defaultPointer(&s.CachingMode, v1.AzureDataDiskCachingReadWrite)
		defaultPointer(&s.FSType, "ext4")
		defaultPointer(&s.ReadOnly, false)
		defaultPointer(&s.Kind, v1.AzureSharedBlobDisk)
	}
	if s := v.ScaleIO; s != nil {
		defaultTo(&s.StorageMode, "ThinProvisioned")
		defaultTo(&s.FSType, "xfs")
	}
}

func defaultDownwardFiles(files []v1.DownwardAPIVolumeFile) {
	for i := range files {
		defaultFieldRef(files[i].FieldRef)
	}
}

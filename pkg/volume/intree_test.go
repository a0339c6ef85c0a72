package volume

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestVolumesWhoseDriverMoved(t *testing.T) {
	disk, zone := "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/d", "us-central1-a"
	for want, source := range map[string]v1.PersistentVolumeSource{
		"ebs.csi.aws.com vol-1": {AWSElasticBlockStore: &v1.AWSElasticBlockStoreVolumeSource{VolumeID: "aws://us-east-1a/vol-1"}},
		"pd.csi.storage.gke.io projects/UNSPECIFIED/zones/us-central1-a/disks/d": {GCEPersistentDisk: &v1.GCEPersistentDiskVolumeSource{PDName: "d"}},
		"disk.csi.azure.com " + disk:               {AzureDisk: &v1.AzureDiskVolumeSource{DiskName: "d", DataDiskURI: disk}},
		"cinder.csi.openstack.org c":               {Cinder: &v1.CinderPersistentVolumeSource{VolumeID: "c"}},
		"csi.vsphere.vmware.com [store] disk.vmdk": {VsphereVolume: &v1.VsphereVirtualDiskVolumeSource{VolumePath: "[store] disk.vmdk"}},
		"pxd.portworx.com p":                       {PortworxVolume: &v1.PortworxVolumeSource{VolumeID: "p"}},
		"file.csi.azure.com ":                      {AzureFile: &v1.AzureFilePersistentVolumeSource{SecretName: "azure-storage-account-account-secret", ShareName: "share"}},
		" ":                                        {NFS: &v1.NFSVolumeSource{Server: "s", Path: "/"}},
	} {
		pv := &v1.PersistentVolume{}
		pv.Name, pv.Spec.PersistentVolumeSource = "pv", source
		pv.Labels = map[string]string{v1.LabelTopologyZone: zone, v1.LabelFailureDomainBetaZone: zone}
		if source.AzureFile != nil {
			pv.Spec.ClaimRef = &v1.ObjectReference{Namespace: "ns"}
			pv.Annotations = map[string]string{"resourceGroup": "rg"}
		}
		before := pv.DeepCopy()
		now, err := moved(pv)
		if err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		got := " "
		if c := now.Spec.CSI; c != nil {
			got = c.Driver + " " + c.VolumeHandle
		}
		if got != want && !(source.AzureFile != nil && strings.HasPrefix(got, want)) {
			t.Errorf("%q, want %q", got, want)
		}
		if now.Name != "pv" || (now.Spec.CSI != nil) != (source.NFS == nil) {
			t.Errorf("%s: %+v", want, now)
		}
		if before.Spec.CSI != nil || pv.Spec.CSI != nil {
			t.Errorf("%s: the object was changed", want)
		}
	}
	bad := &v1.PersistentVolume{}
	bad.Spec.AWSElasticBlockStore = &v1.AWSElasticBlockStoreVolumeSource{VolumeID: "aws://nowhere"}
	if _, err := moved(bad); err == nil || !strings.HasPrefix(err.Error(), "failed to translate in-tree pv to CSI: ") {
		t.Errorf("error %v", err)
	}
}

func TestAVolumeWhoseDriverMovedIsSetUpAndGrown(t *testing.T) {
	n := newGrowingNode(t, "1Ki")
	n.api.volumes["pv"].Spec.PersistentVolumeSource = v1.PersistentVolumeSource{AWSElasticBlockStore: &v1.AWSElasticBlockStoreVolumeSource{VolumeID: "vol-1", FSType: "ext4"}}
	n.api.volumes["pv"].Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}
	n.enlarge("2Ki")
	setUp(t, n.Manager, n.pod)
	if got := n.drivers.calls; !slices.Equal(got, []string{"set up pv", "expand pv to 2048"}) {
		t.Errorf("calls %q", got)
	}
	want := resource.MustParse("2Ki")
	if got := n.status(); got != want.String()+" " {
		t.Errorf("status %q", got)
	}
	// The record has the volume as it is at the API server.
	if pv, err := n.keptBinding(n.pod.UID, "v"); err != nil || pv.Spec.AWSElasticBlockStore == nil || pv.Spec.CSI != nil {
		t.Errorf("kept %+v, %v", pv, err)
	}
	if p := pathOf(t, n.Manager, n.pod, "v"); !strings.HasSuffix(p, "/volumes/kubernetes.io~csi/pv/mount") {
		t.Errorf("path %s", p)
	}
}

func TestAPodsOwnVolumeWhoseDriverMoved(t *testing.T) {
	drivers := &csiFake{}
	m := newManager(t, Config{CSI: drivers})
	own := func(volume, zone string) *v1.Pod {
		return testPod(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{AWSElasticBlockStore: &v1.AWSElasticBlockStoreVolumeSource{VolumeID: zone + volume, ReadOnly: true}}})
	}
	pod := own("vol-1", "")
	setUp(t, m, pod)
	if got := drivers.calls; !slices.Equal(got, []string{"set up ebs.csi.aws.com-vol-1"}) {
		t.Errorf("calls %q", got)
	}
	if p, err := m.Path(pod, "v"); err != nil || !p.ReadOnly || !strings.HasSuffix(p.Host, "/volumes/kubernetes.io~csi/ebs.csi.aws.com-vol-1/mount") {
		t.Errorf("path %+v, %v", p, err)
	}
	if got := UsersOfDrivers([]*v1.Pod{pod}); len(got) != 1 {
		t.Errorf("users of drivers %q", got)
	}
	for _, bad := range []*v1.Pod{own("../../x", ""), own("vol-1", "aws://nowhere/at/all/")} {
		bad.UID = "bad"
		if err := m.SetUp(t.Context(), bad); err == nil {
			t.Errorf("%+v is set up", bad.Spec.Volumes[0].AWSElasticBlockStore)
		}
	}
	if got := drivers.calls; len(got) != 1 {
		t.Errorf("calls %q", got)
	}
}

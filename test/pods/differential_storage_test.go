package pods

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/mini-kubelet/mini-kubelet/pkg/source"
	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// storageSpecs are specs of PersistentVolumes, and of claims after a "claim: ", each
// right or wrong.
var storageSpecs = []string{
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}}",
	"{capacity: {storage: 1500m}, accessModes: [ReadWriteOnce, ReadOnlyMany], hostPath: {path: /x, type: Directory}, volumeMode: Block, storageClassName: c, persistentVolumeReclaimPolicy: Delete}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], local: {path: /x}, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, values: [b]}]}]}}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], nfs: {server: s, path: /x}, mountOptions: [ro], claimRef: {namespace: default, name: c}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOncePod], iscsi: {targetPortal: s, iqn: 'iqn.2001-04.com.example:disk', lun: 1}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], csi: {driver: D.example, volumeHandle: h, nodeStageSecretRef: {namespace: ns, name: s}}, volumeAttributesClassName: c}",
	"{accessModes: [ReadWriteOnce], hostPath: {path: /x}}",
	"{capacity: {storage: 1Gi}, hostPath: {path: /x}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce]}",
	"{capacity: {storage: 0}, accessModes: [ReadWriteOnce], hostPath: {path: /x}}",
	"{capacity: {cpu: 1}, accessModes: [ReadWriteOnce], hostPath: {path: /x}}",
	"{capacity: {cpu: 1, storage: 1}, accessModes: [ReadWriteOnce], hostPath: {path: /x}}",
	"{capacity: {storage: 1Gi}, accessModes: [Often], hostPath: {path: /x}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOncePod, ReadWriteOnce], hostPath: {path: /x}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: ../x}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: x, type: Tape}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}, nfs: {server: s, path: /x}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}, volumeMode: Tape}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}, persistentVolumeReclaimPolicy: Keep}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}, storageClassName: A_B}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}, volumeAttributesClassName: c}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], csi: {driver: d.example, volumeHandle: h}, volumeAttributesClassName: ''}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /}, persistentVolumeReclaimPolicy: Recycle}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}, nodeAffinity: {}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}, nodeAffinity: {required: {nodeSelectorTerms: []}}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In}]}]}}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}, nodeAffinity: {required: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [a]}]}]}}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], local: {path: /x}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], nfs: {server: '', path: x}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], iscsi: {targetPortal: s, iqn: iqn.x, lun: 1}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], iscsi: {targetPortal: s, iqn: eui.0123456789abcdef, lun: 256}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], iscsi: {targetPortal: s, iqn: eui.0123456789abcdef, lun: 1, chapAuthSession: true}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], iscsi: {targetPortal: s, iqn: eui.0123456789abcdef, lun: 1, initiatorName: x}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], csi: {driver: a_b, volumeHandle: h}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], csi: {driver: d.example}}",
	"{capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], csi: {driver: d.example, volumeHandle: h, nodePublishSecretRef: {name: s}}}",

	"claim: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}",
	"claim: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1500m}}, volumeMode: Block, storageClassName: '', volumeName: v, selector: {matchLabels: {a: b}}}",
	"claim: {resources: {requests: {storage: 1Gi}}}",
	"claim: {accessModes: [ReadWriteOnce]}",
	"claim: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 0}}}",
	"claim: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1}}, storageClassName: A_B}",
	"claim: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1}}, volumeMode: Tape}",
	"claim: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1}}, selector: {matchExpressions: [{key: a, operator: Is}]}}",
	"claim: {accessModes: [ReadWriteOnce, Often], resources: {requests: {storage: 1}}}",
}

// What holds for pods holds for persistent volumes and claims in manifests.
func TestDefaultsAndValidationOfStorageAreTheAPIServers(t *testing.T) {
	t.Parallel()
	client := harness.SharedCluster(t).Client.CoreV1()
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	for _, spec := range storageSpecs {
		spec, isClaim := strings.CutPrefix(spec, "claim: ")
		kind := map[bool]string{true: "PersistentVolumeClaim", false: "PersistentVolume"}[isClaim]
		text := "apiVersion: v1\nkind: " + kind + "\nmetadata: {name: differential}\nspec: " + spec + "\n"
		object, problems := podManifest(t, text)
		var theirs any
		var err error
		if isClaim {
			c := &v1.PersistentVolumeClaim{}
			if err := yaml.UnmarshalStrict([]byte(text), c); err != nil {
				t.Fatalf("%s: %v", spec, err)
			}
			c, err = client.PersistentVolumeClaims("default").Create(t.Context(), c, dry)
			theirs = c.Spec
		} else {
			pv := &v1.PersistentVolume{}
			if err := yaml.UnmarshalStrict([]byte(text), pv); err != nil {
				t.Fatalf("%s: %v", spec, err)
			}
			pv, err = client.PersistentVolumes().Create(t.Context(), pv, dry)
			theirs = pv.Spec
		}
		if err != nil && !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if (err != nil) != (len(problems) > 0) {
			t.Errorf("%s: the API server says %v, we say %v", spec, err, problems)
			continue
		}
		if err != nil {
			continue
		}
		var ours any
		switch o := object.(type) {
		case *v1.PersistentVolume:
			ours = o.Spec
		case *v1.PersistentVolumeClaim:
			ours = o.Spec
		}
		if err := compare(ours, theirs); err != nil {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// podManifest returns what a standalone node makes of a document.
func podManifest(t *testing.T, text string) (metav1.Object, []manifest.Problem) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "m.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := source.NewFile(source.FileConfig{Path: file, NodeName: "node", Objects: true, Report: func(manifest.Problem) {}})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan source.Snapshot)
	stop := testrun.Start(t, func(ctx context.Context) error { return s.Run(ctx, out) })
	snapshot := <-out
	stop()
	if len(snapshot.Objects) == 0 {
		return nil, s.Problems()
	}
	return snapshot.Objects[0], s.Problems()
}

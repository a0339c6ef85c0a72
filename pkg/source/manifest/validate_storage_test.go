package manifest

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// volumeDocument is a manifest of a PersistentVolume "v" whose spec has the lines
// besides those that every one has.
func volumeDocument(lines ...string) string {
	return document("PersistentVolume", "v", append([]string{"spec:", "  capacity: {storage: 1Gi}", "  accessModes: [ReadWriteOnce]"}, indent(lines)...)...)
}

// claimDocument is volumeDocument for a PersistentVolumeClaim "c".
func claimDocument(lines ...string) string {
	return document("PersistentVolumeClaim", "c", append([]string{"spec:", "  resources: {requests: {storage: 1Gi}}", "  accessModes: [ReadWriteOnce]"}, indent(lines)...)...)
}

func indent(lines []string) []string {
	all := make([]string, len(lines))
	for i, l := range lines {
		all[i] = "  " + l
	}
	return all
}

const (
	hostPathLine = "hostPath: {path: /x}"
	affinityLine = "nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node1]}]}]}}"
)

func TestStorageOfAManifest(t *testing.T) {
	docs := standalone.Read([]byte(volumeDocument(hostPathLine) + "---\n" +
		volumeDocument("local: {path: /x}", affinityLine) + "---\n" +
		volumeDocument("nfs: {server: s, path: /x}") + "---\n" +
		volumeDocument("iscsi: {targetPortal: s, iqn: 'iqn.2001-04.com.example:disk', lun: 1}") + "---\n" +
		volumeDocument("csi: {driver: d.example, volumeHandle: h}", "storageClassName: fast", "volumeMode: Block", "persistentVolumeReclaimPolicy: Delete") + "---\n" +
		claimDocument("selector: {matchLabels: {a: b}}", "storageClassName: ''")))
	if len(docs) != 6 {
		t.Fatalf("%d documents", len(docs))
	}
	for i, d := range docs {
		if d.Failed() || len(d.problems) > 0 {
			t.Errorf("document %d: %v", i+1, d.problems)
		}
	}
	pv := docs[0].object.(*v1.PersistentVolume)
	if pv.Namespace != "" || pv.Spec.PersistentVolumeReclaimPolicy != v1.PersistentVolumeReclaimRetain || *pv.Spec.VolumeMode != v1.PersistentVolumeFilesystem || pv.Spec.HostPath.Type == nil {
		t.Errorf("PersistentVolume %+v", pv)
	}
	if i := docs[3].object.(*v1.PersistentVolume).Spec.ISCSI; i.ISCSIInterface != "default" {
		t.Errorf("iSCSI volume %+v", i)
	}
	if c := docs[5].object.(*v1.PersistentVolumeClaim); c.Namespace != "default" || *c.Spec.VolumeMode != v1.PersistentVolumeFilesystem {
		t.Errorf("PersistentVolumeClaim %+v", c)
	}
}

func TestBadStorageIsRefusedWithFieldAndLine(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want string // of the first problem, after the file
	}{
		"unknown field":        {volumeDocument(hostPathLine, "fsType: ext4"), "document 1 (line 9): spec.fsType: unknown field"},
		"not a quantity":       {document("PersistentVolumeClaim", "c", "spec:", "  accessModes: [ReadWriteOnce]", "  resources: {requests: {storage: lots}}"), `document 1 (line 7): spec.resources.requests[storage]: Invalid value: "lots": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'`},
		"namespace":            {strings.Replace(volumeDocument(hostPathLine), "name: v", "name: v\n  namespace: ns", 1), "document 1 (line 5): metadata.namespace: Forbidden: not allowed on this type"},
		"no type":              {volumeDocument(), "document 1 (line 5): spec: Required value: must specify a volume type"},
		"two types":            {volumeDocument(hostPathLine, "nfs: {server: s, path: /x}"), "document 1 (line 9): spec.nfs: Forbidden: may not specify more than 1 volume type"},
		"type that went":       {volumeDocument("glusterfs: {endpoints: e, path: p}"), "document 1 (line 8): spec.glusterfs: Forbidden: removed from Kubernetes"},
		"type that moved":      {volumeDocument("awsElasticBlockStore: {volumeID: v}"), "document 1 (line 8): spec.awsElasticBlockStore: Forbidden: moved to CSI in Kubernetes, which removed the in-tree driver (ebs.csi.aws.com)"},
		"type that is to come": {volumeDocument("fc: {lun: 1}"), "document 1 (line 8): spec.fc: Forbidden: not implemented yet"},
		"local without node":   {volumeDocument("local: {path: /x}"), "document 1 (line 5): spec.nodeAffinity: Required value: Local volume requires node affinity"},
		"local without path":   {volumeDocument("local: {}", affinityLine), "document 1 (line 8): spec.local.path: Required value"},
		"local backsteps":      {volumeDocument("local: {path: /x/../y}", affinityLine), `document 1 (line 8): spec.local.path: Invalid value: "/x/../y": must not contain '..'`},
		"hostPath backsteps":   {volumeDocument("hostPath: {path: ../y}"), `document 1 (line 8): spec.hostPath.path: Invalid value: "../y": must not contain '..'`},
		"relative nfs":         {volumeDocument("nfs: {server: s, path: x}"), `document 1 (line 8): spec.nfs.path: Invalid value: "x": must be an absolute path`},
		"iqn":                  {volumeDocument("iscsi: {targetPortal: s, iqn: iqn.x, lun: 0}"), `document 1 (line 8): spec.iscsi.iqn: Invalid value: "iqn.x": must be valid format`},
		"lun":                  {volumeDocument("iscsi: {targetPortal: s, iqn: 'iqn.2001-04.com.example:disk', lun: 300}"), `document 1 (line 8): spec.iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive`},
		"CHAP without secret":  {volumeDocument("iscsi: {targetPortal: s, iqn: 'iqn.2001-04.com.example:disk', lun: 0, chapAuthSession: true}"), `document 1 (line 8): spec.iscsi.secretRef: Required value`},
		"no handle":            {volumeDocument("csi: {driver: d.example}"), `document 1 (line 8): spec.csi.volumeHandle: Required value`},
		"secret of nowhere":    {volumeDocument("csi: {driver: d.example, volumeHandle: h, nodePublishSecretRef: {name: s}}"), `document 1 (line 8): spec.csi.nodePublishSecretRef.namespace: Required value`},
		"no capacity":          {document("PersistentVolume", "v", "spec:", "  accessModes: [ReadWriteOnce]", "  hostPath: {path: /x}"), `document 1 (line 5): spec.capacity: Required value`},
		"capacity of what":     {document("PersistentVolume", "v", "spec:", "  accessModes: [ReadWriteOnce]", "  hostPath: {path: /x}", "  capacity: {cpu: 1, storage: 1Gi}"), `document 1 (line 8): spec.capacity: Unsupported value: ["cpu","storage"]: supported values: "storage"`},
		"capacity 0":           {document("PersistentVolume", "v", "spec:", "  accessModes: [ReadWriteOnce]", "  hostPath: {path: /x}", "  capacity: {storage: 0}"), `document 1 (line 8): spec.capacity[storage]: Invalid value: "0": must be greater than zero`},
		"access mode":          {document("PersistentVolume", "v", "spec:", "  accessModes: [Often]", "  hostPath: {path: /x}", "  capacity: {storage: 1}"), `document 1 (line 6): spec.accessModes: Unsupported value: "Often": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"`},
		"one pod and others":   {document("PersistentVolume", "v", "spec:", "  accessModes: [ReadWriteOncePod, ReadOnlyMany]", "  hostPath: {path: /x}", "  capacity: {storage: 1}"), `document 1 (line 6): spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes`},
		"reclaim policy":       {volumeDocument(hostPathLine, "persistentVolumeReclaimPolicy: Keep"), `document 1 (line 9): spec.persistentVolumeReclaimPolicy: Unsupported value: "Keep": supported values: "Delete", "Recycle", "Retain"`},
		"volume mode":          {claimDocument("volumeMode: Tape"), `document 1 (line 8): spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"`},
		"class":                {claimDocument("storageClassName: A_B"), `document 1 (line 8): spec.storageClassName: Invalid value: "A_B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`},
		"affinity of nothing":  {volumeDocument(hostPathLine, "nodeAffinity: {}"), `document 1 (line 9): spec.nodeAffinity.required: Required value: must specify required node constraints`},
		"affinity of no term":  {volumeDocument(hostPathLine, "nodeAffinity: {required: {nodeSelectorTerms: []}}"), `document 1 (line 9): spec.nodeAffinity.required.nodeSelectorTerms: Required value: must have at least one node selector term`},
		"affinity operator":    {volumeDocument(hostPathLine, "nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Is, values: [b]}]}]}}"), `document 1 (line 9): spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator`},
		"nothing asked for":    {document("PersistentVolumeClaim", "c", "spec:", "  accessModes: [ReadWriteOnce]"), `document 1 (line 5): spec.resources.requests[storage]: Required value`},
		"nothing to access":    {document("PersistentVolumeClaim", "c", "spec:", "  resources: {requests: {storage: 1}}"), `document 1 (line 5): spec.accessModes: Required value: at least 1 access mode is required`},
		"selector":             {claimDocument("selector: {matchExpressions: [{key: a, operator: Is}]}"), `document 1 (line 8): spec.selector.matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator`},
		"data source":          {claimDocument("dataSource: {kind: PersistentVolumeClaim, name: other}"), `document 1 (line 8): spec.dataSource: Forbidden: a standalone node has nobody who fills a volume from another source`},
	} {
		t.Run(name, func(t *testing.T) {
			docs := standalone.Read([]byte(tt.text))
			if len(docs) != 1 || !docs[0].Failed() || len(docs[0].problems) == 0 {
				t.Fatalf("got %+v", docs)
			}
			if got := strings.TrimPrefix(docs[0].problems[0].Error(), ": "); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestStorageThatMayNotChange(t *testing.T) {
	for name, tt := range map[string]struct{ old, now, want string }{
		"another path":           {volumeDocument(hostPathLine), volumeDocument("hostPath: {path: /y}"), "spec.hostPath"},
		"another type":           {volumeDocument(hostPathLine), volumeDocument("nfs: {server: s, path: /x}"), "spec.nfs"},
		"another mode":           {volumeDocument(hostPathLine), volumeDocument(hostPathLine, "volumeMode: Block"), "spec.volumeMode"},
		"an affinity":            {volumeDocument(hostPathLine), volumeDocument(hostPathLine, affinityLine), ""},
		"another affinity":       {volumeDocument(hostPathLine, affinityLine), volumeDocument(hostPathLine), "spec.nodeAffinity"},
		"for a claim":            {volumeDocument(hostPathLine), volumeDocument(hostPathLine, "claimRef: {namespace: ns, name: c}"), ""},
		"another class":          {volumeDocument(hostPathLine), volumeDocument(hostPathLine, "storageClassName: c"), ""},
		"a claim's volume":       {claimDocument(), claimDocument("volumeName: v"), ""},
		"a claim's other volume": {claimDocument("volumeName: v"), claimDocument("volumeName: w"), "spec"},
		"a claim's class":        {claimDocument(), claimDocument("storageClassName: c"), "spec"},
	} {
		t.Run(name, func(t *testing.T) {
			before := KeepFailed(Content{}, standalone.Read([]byte(tt.old)), node)
			docs := standalone.Read([]byte(tt.now))
			RefuseChanges(docs, before)
			var fields []string
			for _, p := range docs[0].problems {
				fields = append(fields, p.Field)
			}
			if got := strings.Join(fields, " "); got != tt.want || docs[0].Failed() != (tt.want != "") {
				t.Errorf("problems %v, want %q", docs[0].problems, tt.want)
			}
		})
	}
}

// A volume has no namespace, whatever is read from a document that has failed.
func TestAFailedVolumeKeepsWhatItWas(t *testing.T) {
	good, bad := volumeDocument(hostPathLine), volumeDocument(hostPathLine, "fsType: x")
	before := KeepFailed(Content{}, standalone.Read([]byte(good)), node)
	now := KeepFailed(before, standalone.Read([]byte(bad)), node)
	if len(before.Objects) != 1 || len(now.Objects) != 1 || now.Objects[0] != before.Objects[0] {
		t.Errorf("kept %v of %v", now.Objects, before.Objects)
	}
}

func TestTwoVolumesOfOneName(t *testing.T) {
	now := KeepFailed(Content{}, standalone.Read([]byte(volumeDocument(hostPathLine)+"---\n"+volumeDocument(hostPathLine)+"---\n"+claimDocument())), node)
	var all Content
	clashes := NewTaken().AddAll(&all, now, "a file")
	if len(all.Objects) != 2 || len(clashes) != 1 || clashes[0].Message != "duplicate PersistentVolume name v: the one of a file is used, this one is not" {
		t.Errorf("%d objects, clashes %q", len(all.Objects), clashes)
	}
}

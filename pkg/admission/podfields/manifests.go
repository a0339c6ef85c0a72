package podfields

import (
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// metadata says what becomes of the fields of a manifest's metadata, in the order of
// metav1.ObjectMeta. A pod of the API server has these from the API server.
var metadata = section{"ObjectMeta", []row{
	{"name", honoured, "the node's name is appended to a pod's", nil},
	{"generateName", ignored, "where there is a name; without one the document is refused, since nobody would generate it", nil},
	{"namespace", honoured, "default where there is none", nil},
	{"selfLink", ignored, removed, nil},
	{"uid", honoured, "a pod with one keeps its UID, which is made of this and the name, when it is edited; of the other objects it is only shown", nil},
	{"resourceVersion", ignored, servers, nil},
	{"generation", ignored, servers, nil},
	{"creationTimestamp", ignored, servers, nil},
	{"deletionTimestamp", ignored, servers + ". A kubelet would never start the pod; to stop one, remove its manifest", nil},
	{"deletionGracePeriodSeconds", honoured, "of a pod, above the spec's terminationGracePeriodSeconds, as for a kubelet's static pods; the API server would drop it", nil},
	{"labels", honoured, "", nil},
	{"annotations", honoured, "those of kubernetes.io/config. are the node's; that of a mirror pod is refused", nil},
	{"ownerReferences", notNode, "the garbage collector's; a mirror pod has the node for its owner", nil},
	{"finalizers", notNode, "of whoever deletes an object at the API server; a mirror pod has none", nil},
	{"managedFields", ignored, servers, nil},
}}

const servers = "set by the API server; a manifest saved from one has it"

// inManifests says what becomes of fields of a pod's spec in a manifest, where that differs from
// what the table says, by "<type>.<field>".
var inManifests = map[string]string{
	"PodSpec.ephemeralContainers": "refused, as by the API server in a new pod",
	"PodSpec.serviceAccountName":  "`default` is taken and gives nothing; another is refused, since nobody issues its tokens",
	"PodSpec.serviceAccount":      "as serviceAccountName",
	"PodSpec.nodeName":            "replaced by this node's name, whatever it is, as by the kubelet",
	"PodSpec.tolerations":         "one of every NoExecute taint is added, as by the kubelet",
	"PodSpec.resourceClaims":      "refused when it is read",
	"HostPathVolumeSource.path":   "a relative one is refused when it is read",
}

// ForgetIgnored clears the fields of a manifest's metadata that are ignored.
func ForgetIgnored(m *metav1.ObjectMeta) {
	v := reflect.ValueOf(m).Elem()
	for _, f := range fieldsOf(v.Type()) {
		for _, r := range metadata.rows {
			if r.field == f.name && r.verdict == ignored {
				v.FieldByIndex(f.index).SetZero()
			}
		}
	}
}

package podobjects

import (
	"encoding/json"
	"reflect"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestThePatchOfAClaimsStatusHoldsForTheClaimAsItWas(t *testing.T) {
	before := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "c", UID: "u", ResourceVersion: "7", Labels: map[string]string{"a": "b"}}}
	before.Spec.VolumeName = "v"
	before.Status.Phase = v1.ClaimBound
	before.Status.Conditions = []v1.PersistentVolumeClaimCondition{{Type: "Other", Status: v1.ConditionTrue}, {Type: v1.PersistentVolumeClaimFileSystemResizePending, Status: v1.ConditionTrue}}
	before.Status.AllocatedResourceStatuses = map[v1.ResourceName]v1.ClaimResourceStatus{v1.ResourceStorage: v1.PersistentVolumeClaimNodeResizePending}
	if p, err := statusPatch(before, before.DeepCopy()); p != nil || err != nil {
		t.Errorf("patch %s, error %v, for no change", p, err)
	}
	now := before.DeepCopy()
	now.Status.Conditions, now.Status.AllocatedResourceStatuses = now.Status.Conditions[:1], nil
	now.Status.Capacity = v1.ResourceList{v1.ResourceStorage: resource.MustParse("2Gi")}
	p, err := statusPatch(before, now)
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(p, &got); err != nil {
		t.Fatal(err)
	}
	const text = `{"metadata": {"uid": "u", "resourceVersion": "7"}, "status": {
		"allocatedResourceStatuses": null, "capacity": {"storage": "2Gi"},
		"$setElementOrder/conditions": [{"type": "Other"}], "conditions": [{"$patch": "delete", "type": "FileSystemResizePending"}]}}`
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("patch %s", p)
	}
}

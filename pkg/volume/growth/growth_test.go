package growth

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func size(s string) v1.ResourceList {
	if s == "" {
		return nil
	}
	return v1.ResourceList{v1.ResourceStorage: resource.MustParse(s)}
}

// claim returns one that has, asks for and was allocated these sizes.
func claim(has, asked, allocated string, status v1.ClaimResourceStatus, modes ...v1.PersistentVolumeAccessMode) *v1.PersistentVolumeClaim {
	c := &v1.PersistentVolumeClaim{}
	c.Spec.Resources.Requests, c.Status.Capacity, c.Status.AllocatedResources = size(asked), size(has), size(allocated)
	c.Spec.AccessModes = modes
	if status != "" {
		c.Status.AllocatedResourceStatuses = map[v1.ResourceName]v1.ClaimResourceStatus{v1.ResourceStorage: status}
	}
	return c
}

func TestDecide(t *testing.T) {
	const (
		pending    = v1.PersistentVolumeClaimNodeResizePending
		inProgress = v1.PersistentVolumeClaimNodeResizeInProgress
		infeasible = v1.PersistentVolumeClaimNodeResizeInfeasible
		controller = v1.PersistentVolumeClaimControllerResizeInProgress
	)
	shared := claim("2Gi", "2Gi", "2Gi", "", v1.ReadWriteMany)
	everywhere := shared.DeepCopy()
	everywhere.Annotations = map[string]string{notRequired: "true"}
	for name, tt := range map[string]struct {
		claim  *v1.PersistentVolumeClaim
		volume string
		known  string // "": mounting
		change func(*State)
		want   Step
		size   string
	}{
		"it has its size":              {claim("2Gi", "2Gi", "2Gi", ""), "2Gi", "2Gi", nil, Step{Done: true}, "2Gi"},
		"mounted with its size":        {claim("2Gi", "2Gi", "", ""), "2Gi", "", nil, Step{Done: true}, "2Gi"},
		"the volume is larger":         {claim("2Gi", "1Gi", "", ""), "1Gi", "", nil, Step{Done: true}, "2Gi"},
		"nobody knows its size":        {claim("", "2Gi", "2Gi", pending), "2Gi", "0", nil, Step{}, ""},
		"enlarged":                     {claim("1Gi", "2Gi", "2Gi", pending), "2Gi", "1Gi", nil, Step{Grow: true, Report: true, Recovery: true}, "2Gi"},
		"enlarged before it is had":    {claim("1Gi", "2Gi", "2Gi", pending), "2Gi", "", nil, Step{Grow: true, Report: true, Recovery: true}, "2Gi"},
		"an agent died meanwhile":      {claim("1Gi", "2Gi", "2Gi", inProgress), "2Gi", "1Gi", nil, Step{Grow: true, Report: true, Recovery: true}, "2Gi"},
		"less than the volume has":     {claim("1Gi", "2Gi", "2Gi", pending), "3Gi", "1Gi", nil, Step{Grow: true, Report: true, Recovery: true}, "2Gi"},
		"the controller is at it":      {claim("1Gi", "2Gi", "2Gi", controller), "2Gi", "1Gi", nil, Step{}, ""},
		"the controller has not said":  {claim("1Gi", "2Gi", "2Gi", ""), "2Gi", "1Gi", nil, Step{}, ""},
		"given up":                     {claim("1Gi", "2Gi", "2Gi", infeasible), "2Gi", "1Gi", nil, Step{}, ""},
		"given up before it is had":    {claim("1Gi", "2Gi", "2Gi", infeasible), "2Gi", "", nil, Step{}, ""},
		"the controller did it all":    {claim("2Gi", "2Gi", "2Gi", ""), "2Gi", "1Gi", nil, Step{Done: true}, "2Gi"},
		"another node was first":       {shared, "2Gi", "1Gi", nil, Step{Grow: true, Recovery: true, Optional: true}, "2Gi"},
		"once for all nodes":           {everywhere, "2Gi", "1Gi", nil, Step{Done: true}, "2Gi"},
		"failed, and asked again":      {claim("1Gi", "2Gi", "2Gi", pending), "2Gi", "1Gi", func(s *State) { s.Failed = true }, Step{Grow: true, Report: true, Recovery: true}, "2Gi"},
		"failed, and less is asked":    {claim("1Gi", "1500Mi", "2Gi", pending), "2Gi", "1Gi", func(s *State) { s.Failed = true }, Step{Grow: true, Report: true, Recovery: true, Infeasible: true}, "2Gi"},
		"less is asked":                {claim("1Gi", "1500Mi", "2Gi", pending), "2Gi", "1Gi", nil, Step{Grow: true, Report: true, Recovery: true}, "2Gi"},
		"an old controller":            {claim("1Gi", "2Gi", "", ""), "2Gi", "1Gi", nil, Step{Grow: true, Report: true, Optional: true}, "2Gi"},
		"an old controller, elsewhere": {claim("2Gi", "2Gi", "", ""), "2Gi", "1Gi", nil, Step{Grow: true, Optional: true}, "2Gi"},
		"mounted read-only":            {claim("1Gi", "2Gi", "2Gi", pending), "2Gi", "", func(s *State) { s.ReadOnly = true }, Step{Refused: true}, ""},
		"had read-only":                {claim("1Gi", "2Gi", "2Gi", pending), "2Gi", "1Gi", func(s *State) { s.ReadOnly = true }, Step{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := State{Claim: tt.claim, Volume: &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{Capacity: size(tt.volume)}}, Mounting: tt.known == ""}
			if !s.Mounting {
				s.Known = resource.MustParse(tt.known)
			}
			if tt.change != nil {
				tt.change(&s)
			}
			got := Decide(s)
			want := resource.Quantity{}
			if tt.size != "" {
				want = resource.MustParse(tt.size)
			}
			if got.Size.Cmp(want) != 0 {
				t.Errorf("size %s, want %s", got.Size.String(), want.String())
			}
			got.Size = resource.Quantity{}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestPending(t *testing.T) {
	waits := claim("1Gi", "1Gi", "", "")
	waits.Status.Conditions = []v1.PersistentVolumeClaimCondition{{Type: v1.PersistentVolumeClaimFileSystemResizePending, Status: v1.ConditionTrue}}
	for name, tt := range map[string]struct {
		claim *v1.PersistentVolumeClaim
		want  bool
	}{
		"nothing is to grow": {claim("1Gi", "1Gi", "1Gi", ""), false},
		"more is asked for":  {claim("1Gi", "2Gi", "", ""), true},
		"it has grown":       {claim("2Gi", "2Gi", "", ""), true},
		"a status":           {claim("1Gi", "1Gi", "", v1.PersistentVolumeClaimNodeResizePending), true},
		"a condition":        {waits, true},
	} {
		if got := Pending(tt.claim, resource.MustParse("1Gi")); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestStatuses(t *testing.T) {
	c := claim("1Gi", "2Gi", "2Gi", v1.PersistentVolumeClaimNodeResizePending)
	c.Status.AllocatedResourceStatuses["example.com/other"] = "kept"
	for _, kind := range []v1.PersistentVolumeClaimConditionType{
		v1.PersistentVolumeClaimFileSystemResizePending, v1.PersistentVolumeClaimResizing, v1.PersistentVolumeClaimVolumeModifyingVolume,
	} {
		c.Status.Conditions = append(c.Status.Conditions, v1.PersistentVolumeClaimCondition{Type: kind, Status: v1.ConditionTrue})
	}
	status := func(c *v1.PersistentVolumeClaim) v1.ClaimResourceStatus {
		return c.Status.AllocatedResourceStatuses[v1.ResourceStorage]
	}
	before := c.DeepCopy()
	if b := Begun(c); status(b) != v1.PersistentVolumeClaimNodeResizeInProgress || len(b.Status.Conditions) != 3 {
		t.Errorf("begun %+v", b.Status)
	}
	now := metav1.NewTime(time.Unix(1, 0))
	failed := Failed(c, errors.New(strings.Repeat("x", 9999)), false, now)
	last := failed.Status.Conditions[3]
	if status(failed) != v1.PersistentVolumeClaimNodeResizePending || last.Type != v1.PersistentVolumeClaimNodeResizeError ||
		last.Status != v1.ConditionTrue || last.LastTransitionTime != now || !strings.HasPrefix(last.Message, "failed to expand pvc with xxx") || len(last.Message) > 1024 {
		t.Errorf("failed %+v", failed.Status)
	}
	again := Failed(failed, errors.New("y"), true, metav1.Now())
	if status(again) != v1.PersistentVolumeClaimNodeResizeInfeasible || len(again.Status.Conditions) != 4 || again.Status.Conditions[3] != last {
		t.Errorf("failed again %+v", again.Status)
	}
	f := Finished(again, resource.MustParse("2Gi"))
	if got := f.Status.Capacity[v1.ResourceStorage]; got.String() != "2Gi" || len(f.Status.AllocatedResourceStatuses) != 1 ||
		len(f.Status.Conditions) != 1 || f.Status.Conditions[0].Type != v1.PersistentVolumeClaimVolumeModifyingVolume {
		t.Errorf("finished %+v", f.Status)
	}
	if f := Finished(claim("", "1Gi", "", v1.PersistentVolumeClaimNodeResizePending), resource.MustParse("1Gi")); f.Status.AllocatedResourceStatuses != nil || f.Status.Capacity == nil {
		t.Errorf("finished %+v", f.Status)
	}
	if !reflect.DeepEqual(c, before) {
		t.Error("the claim was changed")
	}
}

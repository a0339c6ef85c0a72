package admission

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

func TestANodeThatIsShortOfSomethingTakesOnlySomePods(t *testing.T) {
	const memory, disk, pid = v1.NodeMemoryPressure, v1.NodeDiskPressure, v1.NodePIDPressure
	bestEffort, burstable := spec(v1.PodSpec{}), requesting("new", "1", "1Mi")
	tolerates := func(key string) *v1.Pod {
		return spec(v1.PodSpec{Tolerations: []v1.Toleration{{Key: key, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoSchedule}}})
	}
	critical := spec(v1.PodSpec{Priority: ptr.To[int32](2_000_000_000)})
	static := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{pods.AnnotationConfigSource: pods.SourceFile}}}
	criticalStatic := static.DeepCopy()
	criticalStatic.Spec.Priority = ptr.To[int32](2_000_001_000)
	for name, tc := range map[string]struct {
		pod        *v1.Pod
		pressure   []v1.NodeConditionType
		standalone bool
		want       string // the rejection's message
	}{
		"nothing is short":                                  {bestEffort, nil, false, ""},
		"best effort, memory":                               {bestEffort, []v1.NodeConditionType{memory}, false, "The node had condition: [MemoryPressure]. "},
		"best effort that bears it":                         {tolerates(v1.TaintNodeMemoryPressure), []v1.NodeConditionType{memory}, false, ""},
		"best effort that bears something else":             {tolerates(v1.TaintNodeDiskPressure), []v1.NodeConditionType{memory}, false, "The node had condition: [MemoryPressure]. "},
		"burstable, memory":                                 {burstable, []v1.NodeConditionType{memory}, false, ""},
		"burstable, disk":                                   {burstable, []v1.NodeConditionType{disk}, false, "The node had condition: [DiskPressure]. "},
		"burstable, memory and disk":                        {burstable, []v1.NodeConditionType{disk, memory}, false, "The node had condition: [DiskPressure MemoryPressure]. "},
		"bearing the lack of memory does not help for PIDs": {tolerates(v1.TaintNodeMemoryPressure), []v1.NodeConditionType{pid}, false, "The node had condition: [PIDPressure]. "},
		"critical":              {critical, []v1.NodeConditionType{disk}, false, ""},
		"static":                {static, []v1.NodeConditionType{disk}, false, ""},
		"static, where all are": {static, []v1.NodeConditionType{disk}, true, "The node had condition: [DiskPressure]. "},
		"static and critical, where all are static": {criticalStatic, []v1.NodeConditionType{disk}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := Admit(tc.pod, nil, Node{Pressure: tc.pressure, EvictStatic: tc.standalone})
			if tc.want == "" && r != nil || tc.want != "" && (r == nil || r.Reason != "Evicted" || r.Message != tc.want || !r.Pressure) {
				t.Errorf("rejected %+v, want %q", r, tc.want)
			}
		})
	}
}

package shutdown

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

func TestPeriods(t *testing.T) {
	by := func(pairs ...int64) (list []kubeletconfig.ShutdownGracePeriodByPodPriority) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, kubeletconfig.ShutdownGracePeriodByPodPriority{Priority: int32(pairs[i]), ShutdownGracePeriodSeconds: pairs[i+1]})
		}
		return list
	}
	for name, tt := range map[string]struct {
		by              []kubeletconfig.ShutdownGracePeriodByPodPriority
		total, critical time.Duration
		want            []Period
		longest         time.Duration
	}{
		"not asked for":           {},
		"a period for all":        {total: 30 * time.Second, want: []Period{{0, 30 * time.Second}, {2_000_000_000, 0}}, longest: 30 * time.Second},
		"a part for the critical": {total: 30 * time.Second, critical: 10 * time.Second, want: []Period{{0, 20 * time.Second}, {2_000_000_000, 10 * time.Second}}, longest: 30 * time.Second},
		"by priority, in any order": {by: by(1000, 20, 0, 10, 2_000_000_000, 5),
			want: []Period{{0, 10 * time.Second}, {1000, 20 * time.Second}, {2_000_000_000, 5 * time.Second}}, longest: 35 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			got := Periods(tt.by, tt.total, tt.critical)
			if !reflect.DeepEqual(got, tt.want) || total(got) != tt.longest {
				t.Errorf("%v of %v, want %v of %v", got, total(got), tt.want, tt.longest)
			}
		})
	}
}

func TestGroups(t *testing.T) {
	pod := func(name string, priority, grace int64) *v1.Pod {
		p := &v1.Pod{}
		p.Name = name
		if priority != -1 {
			p.Spec.Priority = new(int32(priority))
		}
		if grace != -1 {
			p.Spec.TerminationGracePeriodSeconds = &grace
		}
		return p
	}
	three := []Period{{10, 10 * time.Second}, {1000, 20 * time.Second}, {2_000_000_000, 5 * time.Second}}
	for name, tt := range map[string]struct {
		periods []Period
		pods    []*v1.Pod
		want    string // priority: pod/seconds ...
	}{
		"no periods":                  {pods: []*v1.Pod{pod("a", 0, 1)}},
		"nobody to end":               {periods: three},
		"no priority is zero":         {three, []*v1.Pod{pod("a", -1, 1)}, "10: a/1"},
		"below the lowest":            {three, []*v1.Pod{pod("a", -5, 1)}, "10: a/1"},
		"on a boundary, and below it": {three, []*v1.Pod{pod("a", 1000, 1), pod("b", 999, 1)}, "10: b/1; 1000: a/1"},
		"above the highest":           {three, []*v1.Pod{pod("a", 2_000_001_000, 1)}, "2000000000: a/1"},
		"the shorter of two graces":   {three, []*v1.Pod{pod("a", 1000, 30), pod("b", 1000, 15), pod("c", 1000, -1)}, "1000: a/20 b/15 c/20"},
		"one period for all":          {three[1:2], []*v1.Pod{pod("a", 0, 5), pod("b", 2_000_000_000, 50)}, "1000: a/5 b/20"},
	} {
		t.Run(name, func(t *testing.T) {
			var all []string
			for _, g := range groups(tt.periods, tt.pods) {
				text := fmt.Sprintf("%d:", g.Priority)
				for _, p := range g.pods {
					text += fmt.Sprintf(" %s/%d", p.Name, g.grace(p))
				}
				all = append(all, text)
			}
			if got := strings.Join(all, "; "); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

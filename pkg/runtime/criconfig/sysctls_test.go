package criconfig

import (
	"maps"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestDefaultSysctlsStayWithinThePodAndGiveWayToItsOwn(t *testing.T) {
	node := NodeConfig{Sysctls: map[string]string{"net/core/somaxconn": "1024", "kernel.shm_rmid_forced": "1", "kernel.domainname": "x", "user.max_user_namespaces": "5"}}
	for name, tt := range map[string]struct {
		spec v1.PodSpec
		want map[string]string
	}{
		"a pod of its own":       {v1.PodSpec{}, map[string]string{"net.core.somaxconn": "1024", "kernel.shm_rmid_forced": "1", "kernel.domainname": "x"}},
		"the host's network":     {v1.PodSpec{HostNetwork: true}, map[string]string{"kernel.shm_rmid_forced": "1"}},
		"the host's IPC":         {v1.PodSpec{HostIPC: true}, map[string]string{"net.core.somaxconn": "1024", "kernel.domainname": "x"}},
		"users of its own":       {v1.PodSpec{HostNetwork: true, HostIPC: true, HostUsers: ptr.To(false)}, map[string]string{"user.max_user_namespaces": "5"}},
		"the pod sets it itself": {v1.PodSpec{HostIPC: true, SecurityContext: &v1.PodSecurityContext{Sysctls: []v1.Sysctl{{Name: "net.core.somaxconn", Value: "7"}}}}, map[string]string{"net.core.somaxconn": "7", "kernel.domainname": "x"}},
	} {
		if got := linuxSandbox(&v1.Pod{Spec: tt.spec}, node).Sysctls; !maps.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestContainersEndAsAWholeWhereTheRuntimeIsTold(t *testing.T) {
	pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "a"}}}}
	for _, together := range []bool{false, true} {
		got, set := Resources(pod, &pod.Spec.Containers[0], NodeConfig{KillTogether: together}).Unified["memory.oom.group"]
		if set != together || together && got != "1" {
			t.Errorf("KillTogether %t: memory.oom.group %q", together, got)
		}
	}
}

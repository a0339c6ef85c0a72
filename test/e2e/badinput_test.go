package e2e

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// badPods are pods of which nothing can come, each for a reason of its own: by the
// events that each try is told by, and what the container then waits for.
var badPods = map[string]struct {
	change func(p *v1.Pod, c *v1.Container)
	waits  string   // reason of the container, or "" where the pod has failed
	events []string // reason and message of each try, regular expressions
}{
	"no-config-map": {func(_ *v1.Pod, c *v1.Container) {
		c.EnvFrom = []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "nobody"}}}}
	}, "CreateContainerConfigError", []string{"Pulled: .* already present", `Failed: Error: configmap "nobody" not found`}},
	"no-key": {func(_ *v1.Pod, c *v1.Container) {
		c.Env = []v1.EnvVar{{Name: "KEY", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}, Key: "size"}}}}
	}, "CreateContainerConfigError", []string{"Pulled: .* already present", "Failed: Error: couldn't find key size in ConfigMap .*/settings"}},
	"no-secret": {func(_ *v1.Pod, c *v1.Container) {
		c.Env = []v1.EnvVar{{Name: "KEY", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "nobody"}, Key: "key"}}}}
	}, "CreateContainerConfigError", []string{"Pulled: .* already present", `Failed: Error: secret "nobody" not found`}},
	"no-volume": {func(p *v1.Pod, c *v1.Container) {
		c.VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
		p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "nobody"}, Optional: ptr.To(false)}}}}
	}, "ContainerCreating", []string{`FailedMount: .*configmap "nobody" not found`}},
	"bad-image-name": {func(_ *v1.Pod, c *v1.Container) { c.Image = "Not-A-Name" },
		"InvalidImageName", []string{"InspectFailed: Failed to apply default image tag .*", "Failed: Error: InvalidImageName"}},
	"never-pull": {func(_ *v1.Pod, c *v1.Container) { c.Image, c.ImagePullPolicy = "test.local/nobody:1", v1.PullNever },
		"ErrImageNeverPull", []string{"ErrImageNeverPull: .* not present with pull policy of Never", "Failed: Error: ErrImageNeverPull"}},
	"no-registry": {func(_ *v1.Pod, c *v1.Container) { c.Image = "127.0.0.1:1/nobody:1" },
		"ImagePullBackOff", []string{"Pulling: .*", "Failed: Failed to pull image .*", "Failed: Error: ErrImagePull", "BackOff: Back-off pulling image .*", "Failed: Error: ImagePullBackOff"}},
	"refused": {func(_ *v1.Pod, c *v1.Container) { // by the runtime
		c.SecurityContext = &v1.SecurityContext{SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr.To("nobody.json")}}
	}, "CreateContainerError", []string{"Pulled: .* already present", "Failed: Error: .*nobody.json.*"}},
	"root": {func(_ *v1.Pod, c *v1.Container) { c.SecurityContext = &v1.SecurityContext{RunAsNonRoot: ptr.To(true)} },
		"CreateContainerConfigError", []string{"Pulled: .* already present", "Failed: Error: container has runAsNonRoot and image will run as root.*"}},
	"no-sandbox": {func(p *v1.Pod, _ *v1.Container) {
		p.Spec.SecurityContext = &v1.PodSecurityContext{Sysctls: []v1.Sysctl{{Name: "net.ipv4.ip_unprivileged_port_start", Value: "many"}}}
	}, "ContainerCreating", []string{"FailedCreatePodSandBox: Failed to create pod sandbox: .*"}},
	"sysctl": {func(p *v1.Pod, _ *v1.Container) {
		p.Spec.SecurityContext = &v1.PodSecurityContext{Sysctls: []v1.Sysctl{{Name: "kernel.msgmax", Value: "65536"}}}
	}, "", []string{"SysctlForbidden: .*"}},
}

// backOffs are the events of a look during a back-off: when that is depends on how busy the
// machine is. After these tries the back-offs last 10 s, 20 s, 40 s and so on, and there is one look
// in each ten seconds of them, since the image may arrive by other means.
const (
	backOffs = "BackOff: |Failed: Error: ImagePullBackOff"
	tries    = "Pulling: "
)

// TestBadInputIsToldOnceATryAndTriedByTheBackOff reads the events that the API server
// gets, while something makes the agent look at the pods many times a second.
func TestBadInputIsToldOnceATryAndTriedByTheBackOff(t *testing.T) {
	n, ns := join(t)
	n.MustKubectl(ns, "create", "configmap", "settings", "--from-literal=colour=green")
	// What they name is watched before they come: a first answer that is late has events of its own.
	n.Create(ns, harness.Pod("first", "sleep 1000", quick, func(p *v1.Pod) {
		p.Spec.AutomountServiceAccountToken = ptr.To(false)
		for _, name := range []string{"nobody", "settings"} {
			p.Spec.Containers[0].EnvFrom = append(p.Spec.Containers[0].EnvFrom,
				v1.EnvFromSource{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: name}, Optional: ptr.To(true)}},
				v1.EnvFromSource{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: name}, Optional: ptr.To(true)}})
		}
	}))
	n.AwaitReady(ns, "first")
	client := n.Cluster.Client.CoreV1()
	w, err := client.Events(ns).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for name, bad := range badPods {
		n.Create(ns, harness.Pod(name, "sleep 1000", quick, func(p *v1.Pod) {
			p.Spec.AutomountServiceAccountToken = ptr.To(false) // it has events of its own
			bad.change(p, &p.Spec.Containers[0])
		}))
	}
	poke := time.NewTicker(300 * time.Millisecond)
	defer poke.Stop()
	told := map[string]map[string][]time.Time{} // by pod and event
	// missing returns what the test waits for: all events of each pod, and that it is tried again.
	missing := func() (names []string) {
		for name, bad := range badPods {
			again := bad.waits == ""
			for _, times := range told[name] {
				again = again || len(times) > 1
			}
			for _, want := range bad.events {
				if len(timesOf(told[name], want)) == 0 {
					names = append(names, name+": "+want)
				}
			}
			if !again {
				names = append(names, name+": another try")
			}
		}
		return names
	}
	limit := time.After(2 * harness.Patience) // for all of them
	for round := 0; len(missing()) > 0; {
		select {
		case <-limit:
			t.Fatalf("not seen: %q\n%s", missing(), n.Explain())
		case <-poke.C:
			round++
			patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"poke":"%d"}}}`, round)
			for name := range badPods {
				// The agent writes them, too.
				if _, err := client.Pods(ns).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil && !apierrors.IsConflict(err) {
					t.Fatal(err)
				}
			}
		case got, ok := <-w.ResultChan():
			e, isEvent := got.Object.(*v1.Event)
			if !ok || !isEvent {
				t.Fatalf("the watch of events ended: %v", got.Object)
			}
			if e.Source.Component != "kubelet" {
				// The control plane's: a node that has just become Ready keeps its taint for up to
				// 5 s more, and the pods that come meanwhile are told of their eviction and its end.
				continue
			}
			pod := e.InvolvedObject.Name
			if told[pod] == nil {
				told[pod] = map[string][]time.Time{}
			}
			what := e.Reason + ": " + e.Message
			for len(told[pod][what]) < int(e.Count) {
				told[pod][what] = append(told[pod][what], e.LastTimestamp.Time)
			}
		}
	}
	for name, bad := range badPods {
		for what, times := range told[name] {
			if !slices.ContainsFunc(bad.events, func(want string) bool { return regexp.MustCompile("^" + want).MatchString(what) }) {
				t.Errorf("%s has an event %s", name, what)
			}
			if regexp.MustCompile("^(" + backOffs + ")").MatchString(what) {
				if tried := len(timesOf(told[name], tries)); len(times) > 1<<tried-1 {
					t.Errorf("%s: event %s came %d times in %d tries", name, what, len(times), tried)
				}
				continue
			}
			for i := range times[1:] {
				// Whole seconds, of a back-off of ten.
				if gap := times[i+1].Sub(times[i]); gap < 9*time.Second {
					t.Errorf("%s: event %s came again after %v", name, what, gap)
				}
			}
		}
		if len(told[name]) != len(bad.events) {
			t.Errorf("%s has the events %q, want %q", name, slices.Collect(maps.Keys(told[name])), bad.events)
		}
		n.Await(ns, name, "waits for "+bad.waits, func(p *v1.Pod) bool {
			if bad.waits == "" {
				return p.Status.Phase == v1.PodFailed && p.Status.Reason == "SysctlForbidden"
			}
			waiting := harness.Status(p, "c").State.Waiting
			return p.Status.Phase == v1.PodPending && waiting != nil && waiting.Reason == bad.waits
		})
	}
	made, err := n.Docker.Client.ContainerList(t.Context(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", "io.kubernetes.pod.namespace="+ns))})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range made {
		if !strings.HasPrefix(c.Names[0], "/k8s_POD_") && !strings.HasPrefix(c.Names[0], "/k8s_c_first_") {
			t.Errorf("there is a container %v", c.Names)
		}
	}
}

// timesOf returns when an event, given as a regular expression, was told.
func timesOf(told map[string][]time.Time, want string) []time.Time {
	for what, times := range told {
		if regexp.MustCompile("^" + want).MatchString(what) {
			return times
		}
	}
	return nil
}

package why

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// now is when the tests are.
var now = time.Date(2026, 11, 30, 10, 0, 0, 0, time.Local)

// known is evidence that is given. Every field of a pod is in the line of its number of dots.
type known struct {
	line       string
	listening  []Listener
	holder     Process
	keys       map[string][]string
	wants      string
	volumes    []string
	next       time.Time
	noSockets  bool
	noManifest bool
}

func (k known) Where(_ string, name types.NamespacedName, field string) string {
	if k.noManifest {
		return ""
	}
	return fmt.Sprintf("/m/%s.yaml:%d", strings.TrimSuffix(name.Name, "-n1"), strings.Count(field, ".")+1)
}
func (k known) LastLine(context.Context, *v1.Pod, string) string { return k.line }
func (k known) Listening(context.Context, *v1.Pod) ([]Listener, bool) {
	return k.listening, !k.noSockets
}
func (k known) Holder(context.Context, string, int32) (Process, bool) {
	return k.holder, k.holder.PID > 0
}
func (k known) Keys(_ context.Context, kind, _, name string) ([]string, bool) {
	keys, ok := k.keys[kind+"/"+name]
	return keys, ok
}
func (k known) Unsuitable(string, string) (string, []string, bool) {
	return k.wants, k.volumes, k.wants != ""
}
func (k known) NextTry(types.UID, string) time.Time { return k.next }

// thePod is a static pod with one container, changed.
func thePod(change ...func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-n1", UID: "u", Annotations: map[string]string{pods.AnnotationConfigSource: pods.SourceFile}}}
	p.Spec.RestartPolicy = v1.RestartPolicyAlways
	p.Spec.Containers = []v1.Container{{Name: "c", Image: "i"}}
	p.Status.Phase = v1.PodPending
	for _, c := range change {
		c(p)
	}
	return p
}

func waits(reason, message string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, v1.ContainerStatus{Name: "c", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason, Message: message}}})
	}
}

// died is the end of a container's run of d.
func died(code int32, reason string, d time.Duration) *v1.ContainerStateTerminated {
	return &v1.ContainerStateTerminated{ExitCode: code, Reason: reason, StartedAt: metav1.NewTime(now.Add(-time.Minute - d)), FinishedAt: metav1.NewTime(now.Add(-time.Minute))}
}

func crashed(t *v1.ContainerStateTerminated) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Status.Phase = v1.PodRunning
		p.Status.ContainerStatuses = []v1.ContainerStatus{{
			Name: "c", ContainerID: "x://1", RestartCount: 5, State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 20s"}},
			LastTerminationState: v1.ContainerState{Terminated: t},
		}}
	}
}

func failed(reason, message string) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Status.Phase, p.Status.Reason, p.Status.Message = v1.PodFailed, reason, message }
}

func runs(ready bool) func(*v1.Pod) {
	return func(p *v1.Pod) {
		started := true
		p.Status.Phase = v1.PodRunning
		p.Status.ContainerStatuses = []v1.ContainerStatus{{
			Name: "c", ContainerID: "x://1", Ready: ready, Started: &started, State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.NewTime(now.Add(-41 * time.Second))}},
		}}
		status := v1.ConditionFalse
		if ready {
			status = v1.ConditionTrue
		}
		p.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady, Status: status}}
	}
}

func asks(port int) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Containers[0].ReadinessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt(port)}}}
	}
}

func volume(v v1.VolumeSource) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v}} }
}

// said is an event about the container c, so long before now.
func said(ago time.Duration, reason, message string) journal.Shown {
	return journal.Shown{Kind: journal.Said.String(), Name: "c", Reason: reason, Detail: message, Time: now.Add(-ago)}
}

func mountFailed(why string) journal.Shown {
	return said(time.Second, "FailedMount", `MountVolume.SetUp failed for volume "v" : `+why)
}

func limit(memory string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceMemory: resource.MustParse(memory)}
	}
}

func hostPortOf(port int32) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.Containers[0].Ports = []v1.ContainerPort{{ContainerPort: 80, HostPort: port}} }
}

func TestSentences(t *testing.T) {
	for name, tt := range map[string]struct {
		pod      *v1.Pod
		others   []*v1.Pod
		events   []journal.Shown
		evidence known
		labels   map[string]string
		want     string // the sentence; "": healthy
	}{
		"ready":     {pod: thePod(runs(true))},
		"succeeded": {pod: thePod(func(p *v1.Pod) { p.Status.Phase = v1.PodSucceeded })},
		"being ended": {pod: thePod(runs(false), func(p *v1.Pod) {
			p.DeletionTimestamp = &metav1.Time{Time: now.Add(10 * time.Second)}
		})},
		"does not end": {pod: thePod(func(p *v1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now.Add(-time.Minute)} }),
			want: "still being removed 1m0s after its grace period. → see `mini-kubelet events web-n1`: a process that does not end, or a volume that is busy."},
		"just seen": {pod: thePod(), want: "Pending: is being started. → wait; `mini-kubelet events web-n1` tells more."},
		"under way": {pod: thePod(), events: []journal.Shown{{Kind: "volume", Name: "data", TookNS: -1}},
			want: "Pending: is being started; last: volume data (under way). → wait; `mini-kubelet events web-n1` tells more."},

		"field of another kubelet": {pod: thePod(failed("UnsupportedPodFields", "Pod was rejected: this node cannot do what the pod asks for: spec.volumes[0].rbd: removed from Kubernetes; use the CSI driver x")),
			want: "refused: this node does not do spec.volumes[0].rbd: removed from Kubernetes. → remove spec.volumes[0].rbd, and use the CSI driver x (web.yaml:3). Next try when the manifest changes."},
		"host port": {pod: thePod(hostPortOf(80), failed("NodePorts", "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports")),
			others: []*v1.Pod{thePod(runs(true), hostPortOf(81), func(p *v1.Pod) { p.UID = "o" }), thePod(runs(true), hostPortOf(80), func(p *v1.Pod) { p.Name, p.UID = "first-n1", "f" })},
			want:   "refused: host port 80 is first-n1's (first.yaml:4). → give spec.containers[0].ports[0].hostPort a free port, or none (web.yaml:4). Next try when the manifest changes."},
		"node selector": {pod: thePod(failed("NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: x"), func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }), labels: map[string]string{"disk": "hdd"},
			want: "refused: spec.nodeSelector asks for disk=ssd, and the node has hdd. → change it, or label the node (web.yaml:2). Next try when the manifest changes."},
		"no CPU": {pod: thePod(failed("OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000")),
			want: "refused: not enough cpu left: cpu, requested: 3000, used: 0, capacity: 2000. → lower spec.containers[0].resources.requests, or end pods that use it (web.yaml:4). Next try when the manifest changes."},

		"missing key": {pod: thePod(waits("CreateContainerConfigError", "couldn't find key SIZE in ConfigMap default/settings"), func(p *v1.Pod) {
			p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "A"}, {Name: "X", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}, Key: "SIZE"}}}}
		}), evidence: known{keys: map[string][]string{"ConfigMap/settings": {"COLOUR", "WIDTH"}}, next: now.Add(7 * time.Second)},
			want: "CreateContainerConfigError: container c wants key SIZE of ConfigMap settings, which has none of that name (spec.containers[0].env[1].valueFrom.configMapKeyRef.key); ConfigMap settings has COLOUR, WIDTH. " +
				"→ add the key SIZE to ConfigMap settings, or correct spec.containers[0].env[1].valueFrom.configMapKeyRef.key (web.yaml:6). Next try in 7s; at once when the ConfigMap changes."},
		"missing Secret": {pod: thePod(waits("CreateContainerConfigError", `secret "nobody" not found`), func(p *v1.Pod) {
			p.Spec.Containers[0].EnvFrom = []v1.EnvFromSource{{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "nobody"}}}}
		}), want: "CreateContainerConfigError: container c wants Secret nobody, which is not there (spec.containers[0].envFrom[0].secretRef.name). " +
			"→ add the Secret nobody to namespace default, or correct spec.containers[0].envFrom[0].secretRef.name (web.yaml:5). Next try when it is there."},
		"root": {pod: thePod(waits("CreateContainerConfigError", "container has runAsNonRoot and image will run as root (pod: x)")),
			want: "CreateContainerConfigError: container c (spec.securityContext.runAsNonRoot): container has runAsNonRoot and image will run as root. → set runAsUser beside it to a number other than 0, or remove spec.securityContext.runAsNonRoot (web.yaml:3)."},

		"no such image": {pod: thePod(waits("ImagePullBackOff", `Back-off pulling image "i": ErrImagePull: manifest unknown`)),
			want: "ImagePullBackOff: container c (spec.containers[0].image): manifest unknown. → correct the name or tag in spec.containers[0].image, or push it (web.yaml:3)."},
		"no credentials": {pod: thePod(waits("ImagePullBackOff", `Back-off pulling image "i"`)), events: []journal.Shown{said(time.Second, "Failed", `Failed to pull image "i": unauthorized`)},
			want: `ImagePullBackOff: container c (spec.containers[0].image): Failed to pull image "i": unauthorized. → name a Secret with its credentials in spec.imagePullSecrets, or correct spec.containers[0].image (web.yaml:3).`},
		"never pulled": {pod: thePod(waits("ErrImageNeverPull", "not present")),
			want: "ErrImageNeverPull: container c (spec.containers[0].image): not present. → load the image into the node's runtime, or take imagePullPolicy Never away (web.yaml:3)."},
		"no program, and an ID": {pod: thePod(waits("RunContainerError", "start container "+strings.Repeat("0a", 32)+": permission denied: exec")),
			want: "RunContainerError: container c (spec.containers[0].command): permission denied: exec. → make the program in the image executable, or correct spec.containers[0].command (web.yaml:3)."},
		"no program": {pod: thePod(waits("RunContainerError", `exec: "x": executable file not found in $PATH`)),
			want: `RunContainerError: container c (spec.containers[0].command): exec: "x": executable file not found in $PATH. → correct spec.containers[0].command, or use an image that has the program (web.yaml:3).`},

		"crash": {pod: thePod(crashed(died(1, "Error", 3*time.Second))), evidence: known{line: "DB_HOST not set\x1b[2J", next: now.Add(160 * time.Second)},
			want: "CrashLoopBackOff: container c ends with exit code 1 after 3s, 6 times so far; the last line of its log: \"DB_HOST not set\\x1b[2J\". " +
				"→ mend what its log says: `mini-kubelet logs web-n1 -c c`; its environment and command are in spec.containers[0] (web.yaml:2). Next try in 2m40s."},
		"ends by itself": {pod: thePod(crashed(died(0, "Completed", 0))),
			want: "CrashLoopBackOff: container c ends with exit code 0 in its first second, 6 times so far. → have it stay, or set spec.restartPolicy to OnFailure if it is to end (web.yaml:2)."},
		"lives": {pod: thePod(crashed(died(2, "Error", 0))), events: []journal.Shown{
			said(10*time.Second, "Started", ""), {Kind: "podEvent", Reason: "ContainerDied", Time: now.Add(-9800 * time.Millisecond)},
			said(5*time.Second, "Started", ""), {Kind: "podEvent", Reason: "ContainerDied", Time: now.Add(-4600 * time.Millisecond)},
		}, want: "CrashLoopBackOff: container c ends with exit code 2 after 200ms to 400ms, 6 times so far. " +
			"→ mend what its log says: `mini-kubelet logs web-n1 -c c`; its environment and command are in spec.containers[0] (web.yaml:2)."},

		"137 by the kernel": {pod: thePod(crashed(died(137, "OOMKilled", time.Second)), limit("64Mi")),
			want: "CrashLoopBackOff: container c was killed at 09:59:00 for using all of its 64Mi of memory (OOMKilled, exit code 137), 6 times so far. → raise spec.containers[0].resources.limits.memory, or have it use less (web.yaml:5)."},
		"137 by the kernel, without limit": {pod: thePod(crashed(died(137, "OOMKilled", time.Second))),
			want: "CrashLoopBackOff: container c was killed at 09:59:00 because memory ran out, though it has no limit of its own (OOMKilled, exit code 137), 6 times so far. → set spec.containers[0].resources.limits.memory, or give the pod or the node more memory (web.yaml:5)."},
		"137 by somebody": {pod: thePod(crashed(died(137, "Error", time.Second))),
			want: "CrashLoopBackOff: container c was killed at 09:59:00 by somebody else (SIGKILL, exit code 137): neither the agent nor the kernel for want of memory did, 6 times so far. " +
				"→ find who: a `docker kill`, a kill -9 by root of the node, or a process of the container itself (web.yaml:2)."},
		"137 for its probe": {pod: thePod(crashed(died(137, "Error", time.Minute)), func(p *v1.Pod) {
			p.Spec.Containers[0].LivenessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{}}}
		}), events: []journal.Shown{said(90*time.Second, "Unhealthy", "Liveness probe failed: no"), said(89*time.Second, "Killing", "Container c failed liveness probe, will be restarted")},
			want: "CrashLoopBackOff: container c failed its liveness probe at 09:59:00, was stopped by the agent and did not end within its grace period and was killed (SIGKILL, exit code 137), 6 times so far; failed: no. " +
				"→ mend what spec.containers[0].livenessProbe.exec asks, or correct it (web.yaml:4)."},
		"137 of an earlier run is not this one": {pod: thePod(crashed(died(137, "Error", time.Second))), events: []journal.Shown{said(time.Hour, "Killing", "Container c failed liveness probe, will be restarted")},
			want: "CrashLoopBackOff: container c was killed at 09:59:00 by somebody else (SIGKILL, exit code 137): neither the agent nor the kernel for want of memory did, 6 times so far. " +
				"→ find who: a `docker kill`, a kill -9 by root of the node, or a process of the container itself (web.yaml:2)."},
		"143 by the agent": {pod: thePod(failed("", ""), func(p *v1.Pod) {
			p.Spec.RestartPolicy = v1.RestartPolicyNever
			p.Status.ContainerStatuses = []v1.ContainerStatus{{Name: "c", State: v1.ContainerState{Terminated: died(143, "Error", time.Second)}}}
		}), events: []journal.Shown{said(61*time.Second, "Killing", "Stopping container c")},
			want: "Failed: container c was stopped by the agent at 09:59:00 (Stopping container c): it ended with exit code 143, and spec.restartPolicy Never does not start it again. → mend what it says (web.yaml:2)."},
		"deadline": {pod: thePod(failed("DeadlineExceeded", "Pod was active"), func(p *v1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64); *p.Spec.ActiveDeadlineSeconds = 2 }),
			want: "DeadlineExceeded: it ran longer than the 2 s that spec.activeDeadlineSeconds allows. → raise spec.activeDeadlineSeconds, or have it end sooner (web.yaml:2)."},
		"evicted": {pod: thePod(failed("Evicted", `Usage of EmptyDir volume "v" exceeds the limit "1Mi".`), volume(v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}})),
			want: `Evicted: Usage of EmptyDir volume "v" exceeds the limit "1Mi". → raise spec.volumes[0].emptyDir.sizeLimit, or write less (web.yaml:4).`},

		"asks the wrong port": {pod: thePod(runs(false), asks(8080)), events: []journal.Shown{said(time.Second, "Unhealthy", "Readiness probe failed: dial tcp 10.0.0.1:8080: connect: connection refused")}, evidence: known{listening: []Listener{{"127.0.0.1", 6379}}},
			want: "not Ready for 41s: container c's readiness probe does not succeed; it asks port 8080, and the pod listens on 127.0.0.1:6379 only. → set spec.containers[0].readinessProbe.tcpSocket.port to 6379, or have the container listen on 8080 (web.yaml:5)."},
		"listens on loopback": {pod: thePod(runs(false), asks(8080)), evidence: known{listening: []Listener{{"127.0.0.1", 8080}}},
			want: "not Ready for 41s: container c's readiness probe does not succeed; port 8080 is refused, since the pod listens on it at 127.0.0.1 only. → have the container listen at 0.0.0.0 (web.yaml:5)."},
		"listens on nothing": {pod: thePod(runs(false), asks(8080)),
			want: "not Ready for 41s: container c's readiness probe does not succeed; it asks port 8080, and nothing in the pod listens on any. → correct spec.containers[0].readinessProbe.tcpSocket.port, or have the container listen on it (web.yaml:5)."},
		"sockets are not known": {pod: thePod(runs(false), asks(8080)), evidence: known{noSockets: true},
			want: "not Ready for 41s: container c's readiness probe does not succeed; it has not failed as far as is remembered. → correct spec.containers[0].readinessProbe.tcpSocket.port, or have the container listen on it (web.yaml:5)."},
		"gate": {pod: thePod(runs(false), func(p *v1.Pod) {
			p.Status.ContainerStatuses[0].Ready = true
			p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "example.com/lb"}}
		}), want: "not Ready: spec.readinessGates[0] asks for the condition example.com/lb, which nobody has set to True. → mend the controller that sets it, or remove spec.readinessGates[0] (web.yaml:2)."},

		"hostPath": {pod: thePod(volume(v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/x"}})), events: []journal.Shown{mountFailed("hostPath type check failed: /x is not a file")},
			want: "Pending: volume v (spec.volumes[0].hostPath.type) cannot be mounted: hostPath type check failed: /x is not a file. → make it on the node, or give spec.volumes[0].hostPath.type another value (web.yaml:4)."},
		"mounted since": {pod: thePod(volume(v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/x"}})), events: []journal.Shown{mountFailed("x"), {Seq: 9, Kind: "event", Reason: "Pulling", Detail: "Pulling image"}},
			want: "Pending: is being started; last: Pulling: Pulling image. → wait; `mini-kubelet events web-n1` tells more."},
		"a pull": {pod: thePod(waits("ContainerCreating", "")), events: []journal.Shown{
			{Kind: "pull", Name: "i", Time: now.Add(-time.Hour), TookNS: 5}, {Kind: "pull", Name: "i", Detail: "34 of 120 MB, 3 of 5 layers", Time: now.Add(-12 * time.Second), TookNS: -1}},
			want: "Pending: container c (spec.containers[0].image): image i is being pulled: 34 of 120 MB, 3 of 5 layers, since 12s. → wait; a pull that gets nothing from the registry is given up by itself (web.yaml:3)."},
		"a pull that is over": {pod: thePod(waits("ContainerCreating", "")), events: []journal.Shown{{Kind: "pull", Name: "i", Time: now.Add(-time.Hour), TookNS: 5, Detail: "all 120 MB"}},
			want: "Pending: is being started; last: pull i. → wait; `mini-kubelet events web-n1` tells more."},
		"claim": {pod: thePod(volume(v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}})), events: []journal.Shown{mountFailed("error processing PVC default/data: PVC is not bound: x")},
			evidence: known{wants: `20Gi of class "fast", [ReadWriteOnce]`, volumes: []string{"pv-a: it has 10Gi only", `pv-b: its class is "slow"`}},
			want: `Pending: claim data (spec.volumes[0].persistentVolumeClaim.claimName) has no volume: it wants 20Gi of class "fast", [ReadWriteOnce]; pv-a: it has 10Gi only; pv-b: its class is "slow". ` +
				"→ add a PersistentVolume that suits the claim, or change spec.storageClassName or spec.resources.requests.storage of it (data.yaml:1). Next try when a volume suits."},
		"sandbox": {pod: thePod(hostPortOf(80)), events: []journal.Shown{said(time.Second, "FailedCreatePodSandBox", "Failed to create pod sandbox: Bind for 0.0.0.0:80 failed: port is already allocated")}, evidence: known{next: now.Add(9 * time.Second)},
			want: "Pending: its sandbox cannot be made: Bind for 0.0.0.0:80 failed: port is already allocated. → give spec.containers[0].ports[0].hostPort another value, or stop what has the port: `ss -ltunp` on the node names it (web.yaml:4). Next try in 9s."},
		"port of a process": {pod: thePod(hostPortOf(80)), events: []journal.Shown{said(time.Second, "FailedCreatePodSandBox", "Failed to create pod sandbox: listen tcp4 0.0.0.0:80: bind: address already in use")}, evidence: known{next: now.Add(9 * time.Second), holder: Process{7, "nginx"}},
			want: "Pending: its sandbox cannot be made: listen tcp4 0.0.0.0:80: bind: address already in use. → give spec.containers[0].ports[0].hostPort another value, or stop what has the port: process 7 (nginx) (web.yaml:4). Next try in 9s."},
		"port of another container": {pod: thePod(hostPortOf(80)), events: []journal.Shown{said(time.Second, "FailedCreatePodSandBox", "Failed to create pod sandbox: Bind for 0.0.0.0:80 failed: port is already allocated")}, evidence: known{next: now.Add(9 * time.Second), holder: Process{7, "docker-proxy"}},
			want: "Pending: its sandbox cannot be made: Bind for 0.0.0.0:80 failed: port is already allocated. → give spec.containers[0].ports[0].hostPort another value, or stop what has the port: a container of Docker, which `docker ps --filter publish=80` names (web.yaml:4). Next try in 9s."},
		"port like another": {pod: thePod(hostPortOf(80)), events: []journal.Shown{said(time.Second, "FailedCreatePodSandBox", "Failed to create pod sandbox: listen tcp4 0.0.0.0:8080: bind: address already in use")}, evidence: known{next: now.Add(9 * time.Second), holder: Process{7, "nginx"}},
			want: "Pending: its sandbox cannot be made: listen tcp4 0.0.0.0:8080: bind: address already in use. → give the container another hostPort, or stop what has it: `ss -ltunp` on the node names it (web.yaml:1). Next try in 9s."},
		"network": {pod: thePod(), events: []journal.Shown{said(time.Second, "NetworkNotReady", "network is not ready: cni config uninitialized")},
			want: "Pending: network is not ready: cni config uninitialized. → install or mend the network plug-in of the node; pods with spec.hostNetwork start without. Next try when the network is ready."},
		"name": {pod: thePod(), others: []*v1.Pod{thePod(func(p *v1.Pod) { p.UID, p.DeletionTimestamp = "old", &metav1.Time{Time: now} })},
			want: "Pending: waits for the pod of the same name that it replaces, UID old. → wait: its grace period is 30 s; a shorter spec.terminationGracePeriodSeconds makes the next replacement faster (web.yaml:2). Next try when that pod is gone."},
		"init": {pod: thePod(func(p *v1.Pod) {
			p.Spec.InitContainers = []v1.Container{{Name: "wait"}}
			p.Status.InitContainerStatuses = []v1.ContainerStatus{{Name: "wait", State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.NewTime(now.Add(-time.Hour))}}}}
		}), evidence: known{line: "no db yet"},
			want: `Pending: init container wait has been running for 1h0m0s, and the others wait for its end; the last line of its log: "no db yet". → wait, or mend what it waits for (web.yaml:2).`},
	} {
		t.Run(name, func(t *testing.T) {
			r := Why(t.Context(), &Inputs{
				Now: now, Node: "n1", Pods: append([]*v1.Pod{tt.pod}, tt.others...), Events: func(types.UID) []journal.Shown { return tt.events }, Began: now.Add(-time.Hour),
				Labels: tt.labels, Evidence: tt.evidence,
			})
			var got []string
			for _, f := range r.Findings {
				if f.UID == tt.pod.UID {
					got = append(got, f.Sentence(now))
				}
			}
			if text := strings.Join(got, "\n"); text != tt.want {
				t.Errorf("%s\nwant\n%s", text, tt.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for text, want := range map[string]string{
		"listen tcp4 0.0.0.0:80: bind: address already in use":                  "80",
		"listen tcp6 [::]:8080: bind: address in use":                           "8080",
		"Bind for 0.0.0.0:80 failed: port is allocated":                         "80",
		"Bind for :::80 failed":                                                 "80",
		"failed to bind host port 0.0.0.0:9090:172.17.0.2:80/tcp: in use":       "9090",
		"failed to bind host port for 0.0.0.0:8080:10.0.0.2:80/tcp, 1.2.3.4:80": "80 8080",
		"tcp://127.0.0.1:80":                                                    "80", "2026-12-01T08:80:00": "", "": "",
	} {
		var got []string
		for _, port := range []int32{80, 8080, 9090} {
			if names(text, port) {
				got = append(got, strconv.Itoa(int(port)))
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q names %v, want %s", text, got, want)
		}
	}
}

func TestRefusedManifests(t *testing.T) {
	in := Inputs{Now: now, Node: "N1", Evidence: known{}, Pods: []*v1.Pod{thePod(runs(true))}}
	name := func(name string) types.NamespacedName { return types.NamespacedName{Namespace: "default", Name: name} }
	in.Problems = []Problem{
		{Kind: "Pod", Name: name("db"), File: "/m/db.yaml", Message: "something else"},
		{Kind: "Pod", Name: name("db"), File: "/m/db.yaml", Line: 7, Field: "spec.containers[0].imag", Message: `unknown field (it is spelt "image")`},
		{Kind: "Pod", Name: name("web"), File: "/m/web.yaml", Line: 3, Field: "spec.containers[0].name", Message: "Required value"},
		{Kind: "ConfigMap", Name: name("web"), File: "/m/web.yaml", Line: 9, Field: "data", Message: "Invalid value"},
		{Kind: "Pod", Name: name("disk"), File: "/m/disk.yaml", Line: 9, Field: "spec.containers[0].volumeDevices[0].name", Message: "Invalid value"},
		{Kind: "Pod", Name: name("disk"), File: "/m/disk.yaml", Line: 14, Field: "spec.volumes[0]", Message: "Required value: must specify a volume type"},
		{File: "/m/broken.yaml", Document: 1, Line: 1, Message: "not YAML: did not find\x1b expected key"},
		{File: "/m/broken.yaml", Document: 2, Line: 5, Field: "kind", Message: "Required value"},
	}
	r := Why(t.Context(), &in)
	var got []string
	for _, f := range r.Findings {
		got = append(got, f.Kind+" "+f.Name+": "+f.Sentence(now))
	}
	want := []string{
		`File /m/broken.yaml: refused: not YAML: did not find\u001b expected key. → correct the YAML (broken.yaml:1). Next try when the file changes.`,
		`File /m/broken.yaml: refused: kind: Required value. → give kind a value (broken.yaml:5). Next try when the file changes.`,
		`Pod db: refused: spec.containers[0].imag: unknown field (it is spelt "image"); and 1 more like it. → write "image" for imag (db.yaml:7). Next try when the file changes.`,
		`Pod disk: refused: spec.volumes[0]: Required value: must specify a volume type; and 1 more like it. → give spec.volumes[0] a value (disk.yaml:14). Next try when the file changes.`,
		`ConfigMap web: refused: data: Invalid value. → correct data (web.yaml:9). Next try when the file changes.`,
		`Pod web-n1: its manifest was edited and is refused, what it said before runs on: spec.containers[0].name: Required value. → give spec.containers[0].name a value (web.yaml:3). Next try when the file changes.`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || r.Healthy != 0 {
		t.Errorf("%d healthy, and\n%s\nwant\n%s", r.Healthy, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	in.Namespace, in.Only = "default", "db"
	if r := Why(t.Context(), &in); len(r.Findings) != 1 || r.Findings[0].Name != "db" || r.Healthy != 0 {
		t.Errorf("of db alone: %+v", r)
	}
	in.Problems, in.Only = nil, "web" // as in its manifest
	if r := Why(t.Context(), &in); len(r.Findings) != 0 || r.Healthy != 1 {
		t.Errorf("of web alone: %+v", r)
	}
}

// Whatever a status, an event and a log say, there is one line about each pod that is not well, and it is harmless.
func FuzzWhy(f *testing.F) {
	f.Add("CrashLoopBackOff", "x", "Failed", `MountVolume.SetUp failed for volume "v" : `, int32(137))
	f.Add("CreateContainerConfigError", "couldn't find key a in ConfigMap b/c", "FailedMount", "\x1b[2J\n", int32(1))
	f.Add("Create"+strings.Repeat("\u0088", 4000), strings.Repeat("\u0088", 4000), "Failed", "\x1b[2J", int32(1))
	f.Fuzz(func(t *testing.T, reason, message, event, detail string, code int32) {
		for _, phase := range []v1.PodPhase{v1.PodPending, v1.PodRunning, v1.PodFailed} {
			p := thePod(waits(reason, message), func(p *v1.Pod) {
				p.Status.Phase, p.Status.Reason, p.Status.Message = phase, event, detail
				p.Status.ContainerStatuses[0].LastTerminationState.Terminated = died(code, reason, 0)
			}, volume(v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{}}))
			r := Why(t.Context(), &Inputs{
				Now: now, Node: "n1", Pods: []*v1.Pod{p}, Events: func(types.UID) []journal.Shown { return []journal.Shown{said(time.Second, event, detail)} }, Evidence: known{line: detail},
				Problems: []Problem{{File: detail, Field: reason, Message: message}},
			})
			if len(r.Findings) != 2 {
				t.Fatalf("%d findings", len(r.Findings))
			}
			for i := range r.Findings {
				s := r.Findings[i].Sentence(now)
				if strings.ContainsAny(s, "\n\x1b") || len(s) > 5*maxPart || r.Findings[i].Fix == "" {
					t.Fatalf("%q", s)
				}
			}
		}
	})
}

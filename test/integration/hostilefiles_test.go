package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// maxAgentRSS is what the agent may have needed at its peak, in KiB.
const maxAgentRSS = 300 << 10

// lives checks that the agent is the process that was started, and is small.
func lives(t *testing.T, a *harness.Agent) {
	t.Helper()
	peak, err := harness.PeakRSS(a.PID())
	if err != nil {
		t.Fatalf("the agent has died: %v\n%s", err, a.Explain())
	}
	if peak > maxAgentRSS {
		t.Errorf("the agent needed %d KiB of memory, want at most %d", peak, maxAgentRSS)
	}
	t.Logf("the agent needed at most %d KiB", peak)
}

// spoiler is a pod that ruins a file of its own once and fails; its second attempt looks
// at what it has got and stays.
func spoiler(name, spoil, look string) *v1.Pod {
	p := harness.Pod(name, fmt.Sprintf("if [ -e /state/done ]; then %s || exit 3; trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done; fi\ntouch /state/done\n%s\nexit 1", look, spoil))
	p.Spec.Volumes = []v1.Volume{{Name: "state", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
	p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "state", MountPath: "/state"}}
	return p
}

// TestContainersThatRuinTheirOwnFiles: root in a container, with no volume and no
// capability that others do not have, owns files that the agent made and reads.
func TestContainersThatRuinTheirOwnFiles(t *testing.T) {
	a := start(t)
	victim := filepath.Join(a.Dir, "victim")
	if err := os.WriteFile(victim, []byte("K='precious'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const huge = "truncate -s 8796093022208 " // 8 TiB, which needs no disk
	env := func(p *v1.Pod) *v1.Pod {
		yes := true
		p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "X", ValueFrom: &v1.EnvVarSource{FileKeyRef: &v1.FileKeySelector{VolumeName: "state", Path: "env", Key: "K", Optional: &yes}}}}
		return p
	}
	subPath := func(p *v1.Pod) *v1.Pod {
		p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, v1.VolumeMount{Name: "state", MountPath: "/sub", SubPath: "sub"})
		return p
	}
	logs := func(p *v1.Pod) *v1.Pod {
		p.Spec.Containers[0].TerminationMessagePolicy = v1.TerminationMessageFallbackToLogsOnError
		return p
	}
	restarts := []*v1.Pod{
		spoiler("hosts-grown", huge+"/etc/hosts", `[ $(wc -c </etc/hosts) -lt 4096 ] && grep -q localhost /etc/hosts`),
		spoiler("hosts-changed", "echo '1.2.3.4 bank' >/etc/hosts; chmod 4700 /etc/hosts", `grep -q localhost /etc/hosts && [ $(stat -c %a /etc/hosts) = 644 ]`),
		spoiler("hosts-replaced", "rm -f /etc/hosts; mkfifo /etc/hosts; ln -sf "+victim+" /etc/hosts; mv /etc/passwd /etc/hosts; true", `grep -q localhost /etc/hosts`),
		spoiler("message-grown", huge+"/dev/termination-log", "[ ! -s /dev/termination-log ]"),
		spoiler("message-replaced", "rm -f /dev/termination-log; mkfifo /dev/termination-log; ln -sf "+victim+" /dev/termination-log; true", "[ ! -s /dev/termination-log ]"),
		spoiler("dockers-grown", huge+"/etc/resolv.conf /etc/hostname", "true"),
		logs(spoiler("log-of-one-line", "head -c 20000000 /dev/zero | tr '\\0' x", "true")),
		env(spoiler("env-link", "ln -s "+victim+" /state/env", `[ "$X" = "" ]`)),
		subPath(spoiler("sub-grown", huge+"/sub/f", "[ -d /sub ]")),
	}
	refused := []*v1.Pod{ // its own container is, and nobody else's
		env(spoiler("env-grown", huge+"/state/env", "true")),
		env(spoiler("env-pipe", "mkfifo /state/env", "true")),
		env(spoiler("env-directory", "mkdir /state/env", "true")),
		env(spoiler("env-device", "mknod /state/env c 1 5", "true")),
		subPath(spoiler("sub-link", "rm -rf /state/sub 2>/dev/null; mv /state/sub /state/old; ln -s "+a.Dir+" /state/sub", "true")),
	}
	a.Write("spoilers.yaml", append(restarts, refused...)...)
	for _, p := range restarts {
		a.WaitPodFor(3*harness.Patience, p.Name, "has restarted and is well", restarted) // many at once
	}
	for _, p := range refused {
		a.WaitPod(p.Name, "is told why it cannot restart", func(p *v1.Pod) bool {
			w := harness.Status(p, "c").State.Waiting
			return w != nil && strings.HasPrefix(w.Reason, "CreateContainer")
		})
	}
	message := harness.Status(a.Pod("log-of-one-line"), "c").LastTerminationState.Terminated.Message
	if len(message) != 2048 || strings.Trim(message, "x") != "" {
		t.Errorf("the last words of the long line are %d bytes: %.100q", len(message), message)
	}
	a.Write("other.yaml", harness.Pod("other", ""))
	a.WaitRunning("other")
	lives(t, a)

	a.Kill() // an agent that finds all of it there
	a.Start()
	a.Write("later.yaml", harness.Pod("later", ""))
	a.WaitRunning("later")
	a.Remove("spoilers.yaml")
	for _, p := range append(restarts, refused...) {
		a.WaitGone(p.Name)
	}
	lives(t, a)
	if text, err := os.ReadFile(victim); err != nil || string(text) != "K='precious'\n" {
		t.Errorf("the host's file is now %q, %v", text, err)
	}
}

// TestPodThatRuinsTheFilesOfOthers runs a pod with a hostPath that replaces other
// pods' files with something else.
func TestPodThatRuinsTheFilesOfOthers(t *testing.T) {
	a := start(t)
	victim := filepath.Join(a.Dir, "victim")
	if err := os.WriteFile(victim, []byte("precious\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ruins := map[string]string{
		"link": "ln -s " + victim, "hardlink": "ln /host/victim", "pipe": "mkfifo", "directory": "mkdir", "device": "mknod",
	}
	var pods []*v1.Pod
	for kind := range ruins {
		pods = append(pods, harness.Pod("hosts-"+kind, ""), harness.Pod("others-"+kind, ""))
	}
	a.Write("pods.yaml", pods...)
	// Files by pod, of this attempt and the next.
	files := map[string][]string{}
	for _, p := range pods {
		uid := string(a.WaitRunning(p.Name).UID)
		if strings.HasPrefix(p.Name, "hosts-") {
			files[p.Name] = []string{"/host/root/pods/" + uid + "/etc-hosts"}
			continue
		}
		for _, attempt := range []string{"0", "1"} {
			files[p.Name] = append(files[p.Name], "/host/root/pods/"+uid+"/containers/c/"+attempt,
				"/host/logs/default_"+a.Name(p.Name)+"_"+uid+"/c/"+attempt+".log")
		}
	}
	var ruin, repair []string
	for name, all := range files {
		_, kind, _ := strings.Cut(name, "-")
		for _, f := range all {
			ruin = append(ruin, "rm -f "+f, ruins[kind]+" "+f+map[bool]string{true: " c 1 5"}[kind == "device"])
			repair = append(repair, "rm -rf "+f)
		}
	}
	withHost := func(p *v1.Pod) {
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.Volumes = []v1.Volume{{Name: "host", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: a.Dir}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "host", MountPath: "/host"}}
	}
	a.Write("ruin.yaml", harness.Pod("ruin", strings.Join(append([]string{"set -e"}, ruin...), "\n"), withHost))
	a.WaitPhase("ruin", v1.PodSucceeded)
	for _, p := range pods {
		kill(t, a, p.Name)
	}
	for _, p := range pods {
		if strings.HasPrefix(p.Name, "hosts-") {
			a.WaitPod(p.Name, "is told why it cannot restart", func(p *v1.Pod) bool {
				w := harness.Status(p, "c").State.Waiting
				return w != nil && strings.Contains(w.Message, "hosts file")
			})
		}
	}
	a.Write("other.yaml", harness.Pod("other", ""))
	a.WaitRunning("other")
	lives(t, a)
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious\n" {
		t.Errorf("the host's file is now %q, %v", text, err)
	}
	if fi, err := os.Stat(victim); err != nil || fi.Mode() != 0o600 {
		t.Errorf("the host's file has now mode %v, %v", fi.Mode(), err)
	}

	a.Kill() // an agent that finds all of it there
	a.Start()
	a.Write("repair.yaml", harness.Pod("repair", strings.Join(repair, "\n"), withHost))
	a.WaitPhase("repair", v1.PodSucceeded)
	for _, p := range pods {
		a.WaitPod(p.Name, "runs again, once what was in the way is gone", harness.Ready)
	}
	lives(t, a)
}

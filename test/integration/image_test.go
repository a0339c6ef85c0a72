package integration

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func ofImage(ref string, pull v1.PullPolicy) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Containers[0].Image = ref
		p.Spec.Containers[0].ImagePullPolicy = pull
	}
}

func waitingFor(reason string) func(*v1.Pod) bool {
	return func(p *v1.Pod) bool {
		w := harness.Status(p, "c").State.Waiting
		return w != nil && w.Reason == reason
	}
}

func TestImageThatCannotBePulledBacksOffAndRecovers(t *testing.T) {
	registry := harness.StartRegistry(t)
	a := start(t)
	ref := registry.Host + "/test/late:1"
	other := harness.Pod("other", "")
	a.Write("late.yaml", harness.Pod("late", "", ofImage(ref, "")))
	a.Write("other.yaml", other)
	// ErrImagePull itself may last but a moment; the message keeps it.
	p := a.WaitPod("late", "waits with ImagePullBackOff", waitingFor("ImagePullBackOff"))
	if !strings.Contains(harness.Status(p, "c").State.Waiting.Message, "ErrImagePull") || p.Status.Phase != v1.PodPending {
		t.Errorf("%+v, want Pending and the error in the message", p.Status)
	}
	tries := registry.Pulls()
	a.WaitRunning("other")
	registry.Push(t, "test/late", "1")
	p = a.WaitRunning("late")
	s := harness.Status(p, "c")
	if s.RestartCount != 0 || s.Image != ref {
		t.Errorf("container %+v, want image %s and no restart", s, ref)
	}
	if tries > 6 {
		t.Errorf("the registry was asked %d times before the back-off", tries)
	}
}

func TestRegistryThatIsDownRecovers(t *testing.T) {
	registry := harness.StartRegistry(t)
	a := start(t)
	ref := registry.Push(t, "test/down", "1")
	registry.SetDown(true)
	a.Write("down.yaml", harness.Pod("down", "", ofImage(ref, "")))
	a.WaitPod("down", "waits with ImagePullBackOff", waitingFor("ImagePullBackOff"))
	registry.SetDown(false)
	a.WaitRunning("down")
}

func TestImagePullPolicies(t *testing.T) {
	registry := harness.StartRegistry(t)
	a := start(t)
	ref := registry.Push(t, "test/policy", "1")
	latest := registry.Push(t, "test/policy", "latest")

	a.Write("never.yaml", harness.Pod("never", "", ofImage(registry.Host+"/test/absent:1", v1.PullNever)))
	a.WaitPod("never", "waits with ErrImageNeverPull", waitingFor("ErrImageNeverPull"))
	a.Write("invalid.yaml", harness.Pod("invalid", "", ofImage("UPPER/Case:/:bad", "")))
	a.WaitPod("invalid", "waits with InvalidImageName", waitingFor("InvalidImageName"))

	a.Write("first.yaml", harness.Pod("first", "", ofImage(ref, "")))
	a.WaitRunning("first")
	pulls := registry.Pulls()
	if pulls == 0 {
		t.Fatal("the absent image was not pulled")
	}
	a.Write("second.yaml", harness.Pod("second", "", ofImage(ref, "")))
	a.WaitRunning("second")
	if n := registry.Pulls(); n != pulls {
		t.Errorf("IfNotPresent, the default of a tagged image: pulled though present")
	}
	a.Write("third.yaml", harness.Pod("third", "", ofImage(ref, v1.PullAlways)))
	a.WaitRunning("third")
	if n := registry.Pulls(); n == pulls {
		t.Errorf("Always: not pulled")
	}
	for i := range 2 {
		pulls = registry.Pulls()
		name := fmt.Sprintf("latest%d", i)
		a.Write(name+".yaml", harness.Pod(name, "", ofImage(latest, "")))
		a.WaitRunning(name)
		if n := registry.Pulls(); n == pulls {
			t.Errorf("the default policy of :latest is Always: not pulled the %d. time", i+1)
		}
	}
	if p := a.Pod("second"); p.Spec.Containers[0].ImagePullPolicy != v1.PullIfNotPresent {
		t.Errorf("defaulted policy %s, want IfNotPresent", p.Spec.Containers[0].ImagePullPolicy)
	}
}

func TestSandboxImageIsLoadedWhenItIsMissing(t *testing.T) {
	t.Parallel()
	// A daemon of its own: others need the image there.
	d := harness.StartDockerd(t, harness.DockerdConfig{})
	a := harness.StartAgent(t, harness.AgentConfig{Docker: d})
	a.Write("one.yaml", harness.Pod("one", ""))
	a.WaitRunning("one")
	running, err := a.Running("one")
	if err != nil {
		t.Fatal(err)
	}
	pause := running[harness.Sandbox].ImageID
	a.Remove("one.yaml")
	a.WaitGone("one")
	if _, err := d.Client.ImageRemove(t.Context(), pause, image.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	a.Write("two.yaml", harness.Pod("two", ""))
	a.WaitRunning("two")
	t.Logf("with the sandbox image removed, a pod ran after %v", time.Since(began).Round(time.Millisecond))
}

// Two pods wait for an image that comes slowly, as one pull: both show how far it is.
func TestAPullShowsHowFarItIs(t *testing.T) {
	registry := harness.StartRegistry(t)
	a := start(t)
	ref := registry.PushLarge(t, "test/slow", "1", 20<<20)
	registry.SetPace(512 << 10)
	for _, name := range []string{"one", "two"} {
		a.Write(name+".yaml", harness.Pod(name, "", ofImage(ref, "")))
	}
	halfway := regexp.MustCompile(`[1-9]\d*(\.\d)? of (at least )?2\d MB, \d of 2 layers`)
	for _, name := range []string{"one", "two"} {
		a.WaitPod(name, "is shown to wait for a pull", func(p *v1.Pod) bool {
			report, err := a.Why(t.Context(), p.Namespace, p.Name)
			if err != nil || len(report.Findings) != 1 {
				return false
			}
			out := look(t, a, "", "trace", p.Name).out
			said := report.Findings[0].Sentence(time.Now())
			return strings.Contains(said, "image "+ref+" is being pulled: ") && halfway.MatchString(said) && strings.Contains(said, ", since ") && halfway.MatchString(out)
		})
	}
	registry.SetPace(0)
	a.WaitRunning("one")
	a.WaitRunning("two")
	_, all := record(t, a)
	pulls := 0
	for _, e := range all {
		switch {
		case e.Kind == "pull" && (e.TookNS <= 0 || !strings.HasPrefix(e.Detail, "all 2") || !strings.HasSuffix(e.Detail, "2 of 2 layers unpacked")):
			t.Errorf("a pull that is over: %+v", e)
		case e.Kind == "docker" && e.Name == "POST /images/create":
			if pulls++; e.Detail != ref || e.TookNS < int64(time.Second) {
				t.Errorf("the call of the pull: %+v", e)
			}
		}
	}
	if pulls != 1 {
		t.Errorf("Docker was asked for the image %d times", pulls)
	}
	if err := caused(all, "docker POST /images/create <- cri PullImage <- pull "+regexp.QuoteMeta(ref)+" <- step syncing <- .*"); err != nil {
		t.Error(err)
	}
}

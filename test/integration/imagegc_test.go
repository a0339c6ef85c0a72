package integration

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/api/types/container"
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/pause"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// has reports whether Docker has the image under its name.
func has(t *testing.T, d *harness.Dockerd, ref string) bool {
	t.Helper()
	_, err := d.Client.ImageInspect(t.Context(), ref)
	return err == nil
}

func remaining(t *testing.T, d *harness.Dockerd, refs []string) (left []string) {
	t.Helper()
	for _, ref := range refs {
		if has(t, d, ref) {
			left = append(left, ref)
		}
	}
	return left
}

// TestImagesThatNobodyUsesGoWhenTheirDiskFillsUp: those that were never used go before those that
// were, until there is room; never the sandbox image, one that a pod uses, also as a volume,
// the base of another, or one that somebody else has a container of.
func TestImagesThatNobodyUsesGoWhenTheirDiskFillsUp(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	d := harness.StartDockerd(t, harness.DockerdConfig{DataSize: 256 * mib})
	var idle []string
	for i := range 7 {
		idle = append(idle, fmt.Sprintf("test.local/idle:%d", i))
		d.LoadBig(t, idle[i], 8*mib)
	}
	for _, name := range []string{"used", "base", "foreign", "volume"} {
		d.LoadBig(t, "test.local/"+name+":1", mib)
	}
	builder := create(t, d, "test.local/base:1")
	if _, err := d.Client.ContainerCommit(t.Context(), builder, container.CommitOptions{Reference: "test.local/child:1"}); err != nil {
		t.Fatal(err)
	}
	if err := d.Client.ContainerRemove(t.Context(), builder, container.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	create(t, d, "test.local/foreign:1") // and never started
	child := harness.Pod("child", "", ofImage("test.local/child:1", v1.PullNever))
	mounts := harness.Pod("mounts", "", ofImageVolume("test.local/volume:1", ""))
	mounts.Spec.Volumes[0].Image.PullPolicy = v1.PullNever
	used := harness.Pod("used", "exit 0", ofImage("test.local/used:1", v1.PullNever), policy(v1.RestartPolicyNever))

	// All images are too young when it starts, and it looks again when they are not.
	a := harness.NewAgent(t, harness.AgentConfig{Docker: d, Config: map[string]any{
		"imageMinimumGCAge": "20s", "imageGCHighThresholdPercent": 85, "evictionHard": map[string]string{"memory.available": "1Mi"}, // not imagefs.available
	}})
	d.Fill(t, 90)
	a.Write("child.yaml", child)
	a.Write("mounts.yaml", mounts)
	a.Write("used.yaml", used)
	a.Start()
	waitLog(t, a, "Image garbage collection failed", "Insufficient free disk space on the node's image filesystem")
	a.WaitPhase("used", v1.PodSucceeded)
	a.Remove("used.yaml")
	a.WaitGone("used")
	waitLog(t, a, "Removed unused images")
	if percent := d.Usage(t); percent > 80 {
		t.Errorf("%d %% are used afterwards", percent)
	}
	if len(remaining(t, d, idle)) == len(idle) {
		t.Error("there is room, and not by what nobody has ever used")
	}
	kept := []string{"test.local/used:1", harness.Busybox, "test.local/child:1", "test.local/foreign:1", "test.local/volume:1"}
	if left := remaining(t, d, kept); len(left) != len(kept) {
		t.Errorf("of %q there are only %q", kept, left)
	}

	// Now whatever may go has to go, and it is not enough.
	a.Interrupt()
	d.Fill(t, 99)
	a.SetConfig("imageMinimumGCAge", "1s")
	before := len(a.Log())
	a.Start()
	late := harness.Pod("late", "", ofImage("test.local/used:1", v1.PullNever))
	harness.Eventually(t, "all images go that may", harness.Patience, func() error {
		if left := remaining(t, d, append(idle, "test.local/used:1")); len(left) > 0 {
			return fmt.Errorf("there are still %q", left)
		}
		return nil
	}, a.Explain)
	a.WaitRunning("child")
	a.WaitRunning("mounts")
	kept = kept[1:]
	if left := remaining(t, d, kept); len(left) != len(kept) {
		t.Errorf("of %q there are only %q", kept, left)
	}
	const keeps = "The runtime keeps an image that no pod uses"
	harness.Eventually(t, "it is told which image stays", harness.Patience, func() error {
		if !strings.Contains(a.Log()[before:], keeps) {
			return errors.New("not yet")
		}
		return nil
	}, a.Explain)
	log := a.Log()[before:]
	if strings.Contains(log, "with errors in image deletion") {
		t.Error("what cannot be removed is a failure")
	}
	if n := strings.Count(log, keeps); n != 1 {
		t.Errorf("the image of somebody else's container is told %d times, want once", n)
	}
	a.Write("late.yaml", late)
	a.WaitPod("late", "has no image", waitingFor("ErrImageNeverPull"))
	next := harness.Pod("next", "") // the sandbox image is there
	a.Write("next.yaml", next)
	a.WaitRunning("next")
}

// TestNoImageGoesBeforeEverySourceHasSpoken: a source that is silent may want pods whose image nobody can
// pull again. What it does not want goes soon after it has spoken.
func TestNoImageGoesBeforeEverySourceHasSpoken(t *testing.T) {
	t.Parallel()
	var speaks atomic.Bool
	late := harness.Pod("late", "", ofImage("test.local/wanted:1", v1.PullNever))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !speaks.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(harness.Manifest(late)))
	}))
	defer srv.Close()
	d := harness.StartDockerd(t, harness.DockerdConfig{})
	both := []string{"test.local/idle:1", "test.local/wanted:1"}
	for _, name := range both {
		d.LoadBig(t, name, 1<<20)
	}
	a := harness.NewAgent(t, harness.AgentConfig{Docker: d, Config: map[string]any{
		"staticPodURL": srv.URL, "httpCheckFrequency": "1s",
		"imageMinimumGCAge": "1s", "imageGCHighThresholdPercent": 1, "imageGCLowThresholdPercent": 0,
		"evictionHard": map[string]string{"memory.available": "1Mi"},
	}})
	a.Write("here.yaml", harness.Pod("here", "sleep 4", policy(v1.RestartPolicyNever))) // longer than the minimum age
	a.Start()
	a.WaitPhase("here", v1.PodSucceeded)
	if left := remaining(t, d, both); len(left) != len(both) {
		t.Fatalf("the URL has not answered, and of %q there are only %q\n%s", both, left, a.Explain())
	}
	speaks.Store(true)
	a.WaitRunning("late")
	harness.Eventually(t, "the image that nobody wants is gone", harness.Patience, func() error {
		if has(t, d, both[0]) {
			return errors.New("it is still there")
		}
		return nil
	}, a.Explain)
	if !has(t, d, both[1]) {
		t.Error("the image that a pod uses is gone as well")
	}
}

// create makes a container that the agent does not know, without starting it.
func create(t *testing.T, d *harness.Dockerd, ref string) (id string) {
	t.Helper()
	c, err := d.Client.ContainerCreate(t.Context(), &container.Config{Image: ref}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return c.ID
}

// TestImagesOnContainerdGoToo: another runtime, which may pin no image and names images in full.
// Thresholds that are met always make filling a disk unnecessary.
func TestImagesOnContainerdGoToo(t *testing.T) {
	t.Parallel()
	r := harness.StartContainerd(t)
	for _, names := range [][]string{{"docker.io/library/idle:1", "docker.io/library/idle:again"}, {"docker.io/library/waits:1"}} {
		img := harness.BusyboxImage(t, names...)
		img.Config.Labels = map[string]string{"is": names[0]} // and no other image
		r.Load(t, img)
	}
	a := harness.NewAgent(t, harness.AgentConfig{Config: map[string]any{
		"containerRuntimeEndpoint": r.Endpoint, "imageMinimumGCAge": "1s", "imageGCHighThresholdPercent": 1, "imageGCLowThresholdPercent": 0,
		"evictionHard": map[string]string{"memory.available": "1Mi"},
	}})
	a.Write("web.yaml", harness.Pod("web", ""))
	// Its volume never comes, so it never gets to its image.
	a.Write("waits.yaml", harness.Pod("waits", "", ofImage("waits:1", v1.PullNever), func(p *v1.Pod) {
		kind := v1.HostPathDirectory
		p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/no/such/place", Type: &kind}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
	}))
	a.Start()
	a.WaitRunning("web")
	images := func() (names []string) {
		list, err := r.ListImages(t.Context(), &cri.ListImagesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range list.Images {
			names = append(names, i.RepoTags...)
		}
		slices.Sort(names)
		return names
	}
	harness.Eventually(t, "the image that nobody uses is gone", harness.Patience, func() error {
		if names := images(); slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, "idle") }) {
			return fmt.Errorf("there are %q", names)
		}
		return nil
	}, a.Explain)
	if names, want := images(), []string{"docker.io/library/waits:1", pause.Ref, harness.Busybox}; !slices.Equal(names, want) {
		t.Errorf("left are %q, want %q", names, want)
	}
}

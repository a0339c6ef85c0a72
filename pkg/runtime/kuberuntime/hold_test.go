package kuberuntime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

func TestHoldLeft(t *testing.T) {
	now := time.Unix(1000, 0)
	in := func(d time.Duration, tried *trial) hold { return hold{until: now.Add(d), spec: 1, tried: tried} }
	tried := &trial{sandboxID: "s", made: "no key"}
	for name, tc := range map[string]struct {
		hold      hold
		spec      uint64
		sandboxID string
		made      string
		want      time.Duration
	}{
		"no image, in its back-off":              {in(4*time.Second, nil), 1, "s", "", 4 * time.Second},
		"no image, back-off at its end":          {in(0, nil), 1, "s", "", 0},
		"no image, back-off over":                {in(-time.Second, nil), 1, "s", "", 0},
		"no image, another image in the spec":    {in(4*time.Second, nil), 2, "s", "", 0},
		"no image, another sandbox":              {in(4*time.Second, nil), 1, "t", "", 4 * time.Second},
		"the same would come of it":              {in(4*time.Second, tried), 1, "s", "no key", 4 * time.Second},
		"the same would come of it, back-off":    {in(-time.Second, tried), 1, "s", "no key", 0},
		"the key has come":                       {in(4*time.Second, tried), 1, "s", "digest", 0},
		"another thing is wrong":                 {in(4*time.Second, tried), 1, "s", "no map", 0},
		"another sandbox":                        {in(4*time.Second, tried), 1, "t", "no key", 0},
		"the same from another spec's image":     {in(4*time.Second, tried), 2, "s", "no key", 0},
		"a restart that waits, for five minutes": {in(5*time.Minute, nil), 1, "s", "", 5 * time.Minute},
	} {
		got := tc.hold.left(now, tc.spec, tc.sandboxID, func(trial) string { return tc.made })
		if got != tc.want {
			t.Errorf("%s: %v left, want %v", name, got, tc.want)
		}
	}
}

func TestOnlyFailuresOfTheContainerHoldIt(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx  context.Context
		err  error
		want bool
	}{
		"refused":         {t.Context(), status.Error(codes.InvalidArgument, "no"), true},
		"not by gRPC":     {t.Context(), errors.New("no key"), true},
		"runtime away":    {t.Context(), status.Error(codes.Unavailable, "no"), false},
		"wrapped, away":   {t.Context(), fmt.Errorf("create: %w", status.Error(codes.Unavailable, "no")), false},
		"called off":      {over, errors.New("no"), false},
		"a call too long": {t.Context(), status.Error(codes.DeadlineExceeded, "no"), true},
	} {
		if got := holdable(tc.ctx, tc.err); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// refuser is a creator that may refuse to do things, and counts how often it is asked.
type refuser struct {
	creator
	refuse map[string]error
	asked  map[string]int
}

func (r *refuser) ask(what string) error {
	r.asked[what]++
	return r.refuse[what]
}

func (r *refuser) RunPodSandbox(context.Context, *cri.RunPodSandboxRequest, ...grpc.CallOption) (*cri.RunPodSandboxResponse, error) {
	return &cri.RunPodSandboxResponse{PodSandboxId: "sandbox"}, r.ask("sandbox")
}

func (r *refuser) PodSandboxStatus(context.Context, *cri.PodSandboxStatusRequest, ...grpc.CallOption) (*cri.PodSandboxStatusResponse, error) {
	return &cri.PodSandboxStatusResponse{Status: &cri.PodSandboxStatus{Network: &cri.PodSandboxNetworkStatus{Ip: "10.0.0.2"}}}, r.ask("look")
}

func (r *refuser) CreateContainer(ctx context.Context, q *cri.CreateContainerRequest, _ ...grpc.CallOption) (*cri.CreateContainerResponse, error) {
	if err := r.ask("create"); err != nil {
		return nil, err
	}
	return r.creator.CreateContainer(ctx, q)
}

func (r *refuser) StartContainer(context.Context, *cri.StartContainerRequest, ...grpc.CallOption) (*cri.StartContainerResponse, error) {
	return &cri.StartContainerResponse{}, r.ask("start")
}

func (r *refuser) Ensure(ctx context.Context, pod *v1.Pod, c *v1.Container, s *cri.PodSandboxConfig) (string, error) {
	if err := r.ask("image"); err != nil {
		return "", err
	}
	return r.creator.Ensure(ctx, pod, c, s)
}

// imageError is an error as pkg/runtime/image gives it.
type imageError struct {
	reason string
	retry  time.Duration
}

func (e imageError) Error() string             { return "no image" }
func (e imageError) Reason() string            { return e.reason }
func (e imageError) RetryAfter() time.Duration { return e.retry }

// TestWhatCannotBeStartedIsTriedAndToldOnceABackOff looks at a pod many times during
// its back-off, like a burst of wake-ups, and then once after it.
func TestWhatCannotBeStartedIsTriedAndToldOnceABackOff(t *testing.T) {
	refused := status.Error(codes.Internal, "refused")
	for name, tc := range map[string]struct {
		what    string
		err     error
		waiting actual.Waiting
		events  []string // of each try
		again   time.Duration
	}{
		"image name": {"image", imageError{reason: "InvalidImageName"}, actual.Waiting{Reason: "InvalidImageName", Message: "no image"}, []string{"Failed: Error: InvalidImageName"}, startBackOff},
		"never pull": {"image", imageError{reason: "ErrImageNeverPull"}, actual.Waiting{Reason: "ErrImageNeverPull", Message: "no image"}, []string{"Failed: Error: ErrImageNeverPull"}, startBackOff},
		"pull back-off": {"image", imageError{"ImagePullBackOff", time.Minute}, actual.Waiting{Reason: "ImagePullBackOff", Message: "no image"},
			[]string{"Failed: Error: ImagePullBackOff"}, startBackOff}, // the image may arrive by other means
		"create":  {"create", refused, actual.Waiting{Reason: "CreateContainerError", Message: "refused"}, []string{"Failed: Error: refused"}, startBackOff},
		"start":   {"start", refused, actual.Waiting{Reason: "RunContainerError", Message: "refused"}, []string{"Created: Container created", "Failed: Error: refused"}, startBackOff},
		"look":    {"look", refused, actual.Waiting{}, []string{"FailedPodSandBoxStatus: Unable to get pod sandbox status: refused"}, startBackOff},
		"sandbox": {"sandbox", refused, actual.Waiting{}, []string{"FailedCreatePodSandBox: Failed to create pod sandbox: refused"}, startBackOff},
	} {
		t.Run(name, func(t *testing.T) {
			r := &refuser{creator: creator{dir: t.TempDir()}, refuse: map[string]error{tc.what: tc.err}, asked: map[string]int{}}
			clock := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
			m, err := New(Config{CRI: r, Images: r, Files: r, Clock: clock, Name: "docker", LinksDir: r.dir, Journal: journal.New(clock.Now, r)})
			if err != nil {
				t.Fatal(err)
			}
			m.cfg.Node.PodLogsRoot = r.dir
			pod := testPod(func(p *v1.Pod) {
				p.Spec.InitContainers, p.Spec.Containers = nil, []v1.Container{{Name: "c", Image: "i"}}
			})
			look := func() SyncResult { return m.SyncPod(t.Context(), pod, &actual.PodStatus{}) }

			first := look()
			if first.Waiting["c"] != tc.waiting || !slices.Equal(r.events, tc.events) {
				t.Fatalf("waits for %v, events %q; want %v, %q", first.Waiting["c"], r.events, tc.waiting, tc.events)
			}
			clock.SetTime(clock.Now().Add(time.Second))
			for range 20 {
				if again := look(); again.Waiting["c"] != tc.waiting || again.Err != nil || again.RetryAfter != tc.again-time.Second {
					t.Fatalf("in its back-off: waits for %v, error %v, again in %v", again.Waiting["c"], again.Err, again.RetryAfter)
				}
			}
			if r.asked[tc.what] != 1 || len(r.events) != len(tc.events) {
				t.Errorf("in its back-off it was tried %d times, events %q", r.asked[tc.what], r.events)
			}
			clock.SetTime(clock.Now().Add(tc.again - time.Second))
			look()
			if r.asked[tc.what] != 2 || len(r.events) != 2*len(tc.events) {
				t.Errorf("after its back-off it was tried %d times, events %q", r.asked[tc.what], r.events)
			}
			delete(r.refuse, tc.what)
			clock.SetTime(clock.Now().Add(tc.again))
			if last := look(); last.Err != nil || len(last.Waiting) > 0 || len(m.holds) > 0 {
				t.Errorf("once nothing is wrong: waits for %v, error %v, held %v", last.Waiting, last.Err, m.holds)
			}
		})
	}
}

func TestAContainerThatMissesAKeyStartsWhenTheKeyComes(t *testing.T) {
	r := &refuser{creator: creator{dir: t.TempDir(), maps: map[string]*v1.ConfigMap{}}, asked: map[string]int{}}
	clock := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	m, err := New(Config{CRI: r, Images: r, Files: r, Objects: r, Clock: clock, Name: "docker", LinksDir: r.dir, Journal: journal.New(clock.Now, r)})
	if err != nil {
		t.Fatal(err)
	}
	m.cfg.Node.PodLogsRoot = r.dir
	pod := testPod(func(p *v1.Pod) {
		ref := &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}, Key: "k"}
		p.Spec.InitContainers, p.Spec.Containers = nil, []v1.Container{{Name: "c", Image: "i", Env: []v1.EnvVar{{Name: "K", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: ref}}}}}
	})
	observed := &actual.PodStatus{Sandboxes: []*cri.PodSandboxStatus{{Id: "sandbox", State: cri.PodSandboxState_SANDBOX_READY, Network: &cri.PodSandboxNetworkStatus{Ip: "10.0.0.2"}}}}
	look := func(times int) {
		for range times {
			m.SyncPod(t.Context(), pod, observed)
		}
	}
	look(5)
	r.maps["settings"] = &v1.ConfigMap{}
	look(5)
	if want := []string{`Failed: Error: configmap "settings" not found`, "Failed: Error: couldn't find key k in ConfigMap n/settings"}; !slices.Equal(r.events, want) {
		t.Errorf("events %q, want %q", r.events, want)
	}
	r.maps["settings"] = &v1.ConfigMap{Data: map[string]string{"k": "v"}}
	look(1)
	if r.created == nil || r.asked["image"] != 3 {
		t.Errorf("created %v, looked for its image %d times", r.created, r.asked["image"])
	}
}

func TestNextTryIsTheEndOfAHold(t *testing.T) {
	m := &Manager{holds: holds{}}
	until := time.Now().Add(time.Minute)
	m.hold(backOffKey("u", "c"), hold{until: until})
	if at := m.NextTry("u", "c"); !at.Equal(until) {
		t.Errorf("the next try is at %v, want %v", at, until)
	}
	if at := m.NextTry("u", ""); !at.IsZero() {
		t.Errorf("a sandbox that is not held is tried at %v", at)
	}
}

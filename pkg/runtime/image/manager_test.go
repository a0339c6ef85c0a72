package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/keyring"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/record"
)

// node is a runtime's image store: what is there, and what a pull does.
type node struct {
	mu       sync.Mutex
	present  map[string]*cri.Image
	statuses int
	pulls    []string
	atOnce   int // pulls now
	most     int // pulls at once, at most
	inspect  error
	pull     func(ctx context.Context, r *cri.PullImageRequest) error
}

func (n *node) ImageStatus(_ context.Context, r *cri.ImageStatusRequest, _ ...grpc.CallOption) (*cri.ImageStatusResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.statuses++
	return &cri.ImageStatusResponse{Image: n.present[r.Image.Image]}, n.inspect
}

func (n *node) PullImage(ctx context.Context, r *cri.PullImageRequest, _ ...grpc.CallOption) (*cri.PullImageResponse, error) {
	n.mu.Lock()
	n.pulls = append(n.pulls, r.Image.Image)
	n.atOnce++
	n.most = max(n.most, n.atOnce)
	n.mu.Unlock()
	var err error
	if n.pull != nil {
		err = n.pull(ctx, r)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.atOnce--
	if err != nil {
		return nil, err
	}
	n.present[r.Image.Image] = &cri.Image{Id: "sha256:" + r.Image.Image, Size: 1234}
	return &cri.PullImageResponse{ImageRef: r.Image.Image + "@sha256:digest"}, nil
}

func (n *node) counts() (statuses, pulls int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.statuses, len(n.pulls)
}

type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) Record(x journal.Entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, fmt.Sprintf("%s %s %s: %s", x.Type, x.Reason, x.Container, x.Message))
}

func (e *events) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.list
	e.list = nil
	return l
}

func newNode(present ...string) *node {
	n := &node{present: map[string]*cri.Image{}}
	for _, p := range present {
		n.present[p] = &cri.Image{Id: "sha256:" + p}
	}
	return n
}

func newManager(t *testing.T, n *node, c Config) (*Manager, *events) {
	t.Helper()
	e := &events{}
	c.Images, c.Journal = n, journal.New(time.Now, e)
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m, e
}

func pod(uid string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: uid, Namespace: "ns", UID: types.UID(uid)}}
}

func container(image string, p v1.PullPolicy) *v1.Container {
	return &v1.Container{Name: "c", Image: image, ImagePullPolicy: p}
}

func want(t *testing.T, err error, reason, message string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error = %v, want an Error with reason %s", err, reason)
	}
	if e.Reason() != reason || e.Error() != message {
		t.Errorf("error = %s: %q\nwant    %s: %q", e.Reason(), e.Error(), reason, message)
	}
	return e
}

func TestPolicies(t *testing.T) {
	const there, absent = "there:1", "absent:1"
	for name, tt := range map[string]struct {
		image   string
		policy  v1.PullPolicy
		ref     string
		pulled  bool
		reason  string
		message string
		events  []string
	}{
		"IfNotPresent, present": {there, v1.PullIfNotPresent, "sha256:there:1", false, "", "",
			[]string{`Normal Pulled c: Container image "there:1" already present on machine and can be accessed by the pod`}},
		"IfNotPresent, absent": {absent, v1.PullIfNotPresent, "sha256:absent:1", true, "", "",
			[]string{`Normal Pulling c: Pulling image "absent:1"`, `Normal Pulled c: Successfully pulled image "absent:1" in 2s (2s including waiting). Image size: 1234 bytes.`}},
		"Always, present": {there, v1.PullAlways, "sha256:there:1", true, "", "",
			[]string{`Normal Pulling c: Pulling image "there:1"`, `Normal Pulled c: Successfully pulled image "there:1" in 2s (2s including waiting). Image size: 1234 bytes.`}},
		"Never, present": {there, v1.PullNever, "sha256:there:1", false, "", "",
			[]string{`Normal Pulled c: Container image "there:1" already present on machine and can be accessed by the pod`}},
		"Never, absent": {absent, v1.PullNever, "", false, "ErrImageNeverPull", `Container image "absent:1" is not present with pull policy of Never`,
			[]string{`Warning ErrImageNeverPull c: Container image "absent:1" is not present with pull policy of Never`}},
		"no policy and no tag: latest is pulled always": {"latest-there", "", "sha256:latest-there:latest", true, "", "",
			[]string{`Normal Pulling c: Pulling image "latest-there"`, `Normal Pulled c: Successfully pulled image "latest-there" in 2s (2s including waiting). Image size: 1234 bytes.`}},
		"no policy but a tag: not pulled when present": {there, "", "sha256:there:1", false, "", "",
			[]string{`Normal Pulled c: Container image "there:1" already present on machine and can be accessed by the pod`}},
		"invalid name": {"x/UPPER", v1.PullIfNotPresent, "", false, "InvalidImageName",
			`Failed to apply default image tag "x/UPPER": couldn't parse image reference "x/UPPER": invalid reference format: repository name (x/UPPER) must be lowercase`,
			[]string{`Warning InspectFailed c: Failed to apply default image tag "x/UPPER": couldn't parse image reference "x/UPPER": invalid reference format: repository name (x/UPPER) must be lowercase`}},
		"empty name": {"", v1.PullIfNotPresent, "", false, "InvalidImageName",
			`Failed to apply default image tag "": couldn't parse image reference "": invalid reference format`,
			[]string{`Warning InspectFailed c: Failed to apply default image tag "": couldn't parse image reference "": invalid reference format`}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(there, "latest-there:latest")
				n.pull = func(context.Context, *cri.PullImageRequest) error { time.Sleep(2 * time.Second); return nil }
				m, e := newManager(t, n, Config{})
				ref, err := m.Ensure(t.Context(), pod("p"), container(tt.image, tt.policy), nil)
				if tt.reason != "" {
					want(t, err, tt.reason, tt.message)
				} else if err != nil {
					t.Fatal(err)
				}
				if ref != tt.ref {
					t.Errorf("reference = %q, want %q", ref, tt.ref)
				}
				if _, pulls := n.counts(); (pulls == 1) != tt.pulled {
					t.Errorf("pulls = %d, want pulled %v", pulls, tt.pulled)
				}
				if got := e.take(); !slices.Equal(got, tt.events) {
					t.Errorf("events = %q\nwant     %q", got, tt.events)
				}
			})
		})
	}
}

func TestDefaultTag(t *testing.T) {
	for image, want := range map[string]string{
		"busybox":                    "busybox:latest",
		"busybox:1":                  "busybox:1",
		"reg.example:5000/a/b":       "reg.example:5000/a/b:latest",
		"reg.example:5000/a/b:1":     "reg.example:5000/a/b:1",
		"a@sha256:" + sha:            "a@sha256:" + sha,
		"a:1@sha256:" + sha:          "a:1@sha256:" + sha,
		"localhost/x":                "localhost/x:latest",
		"docker.io/library/x:latest": "docker.io/library/x:latest",
	} {
		if got, err := withDefaultTag(image); err != nil || got != want {
			t.Errorf("withDefaultTag(%q) = %q, %v; want %q", image, got, err, want)
		}
	}
	for _, image := range []string{" ", "a b", "a:", "@", "a@sha256:1", "http://x/y", strings.Repeat("a", 300)} {
		if got, err := withDefaultTag(image); err == nil {
			t.Errorf("withDefaultTag(%q) = %q, want an error", image, got)
		}
	}
}

const sha = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestSecretsThatAreMissingAreToldWhenAPullFails(t *testing.T) {
	const told = "Warning FailedToRetrieveImagePullSecret : Unable to retrieve some image pull secrets (no, nor); attempting to pull the image may not succeed."
	for name, fails := range map[string]bool{"it succeeds": false, "it fails": true} {
		t.Run(name, func(t *testing.T) {
			n := newNode()
			n.pull = func(context.Context, *cri.PullImageRequest) error {
				if fails {
					return status.Error(codes.NotFound, "manifest unknown")
				}
				return nil
			}
			m, e := newManager(t, n, Config{MissingSecrets: func(context.Context, *v1.Pod) []string { return []string{"no", "nor"} }})
			for range 2 { // the second time it waits
				_, _ = m.Ensure(t.Context(), pod("a"), container("x:1", v1.PullIfNotPresent), nil)
			}
			count := 0
			for _, got := range e.take() {
				if got == told {
					count++
				}
			}
			if want := map[bool]int{true: 1}[fails]; count != want {
				t.Errorf("told %d times, want %d", count, want)
			}
		})
	}
}

func TestAFailedPullBacksOffByPodAndImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.pull = func(context.Context, *cri.PullImageRequest) error {
			return status.Error(codes.NotFound, "manifest unknown")
		}
		m, e := newManager(t, n, Config{})
		ensure := func(uid, image string) error {
			_, err := m.Ensure(t.Context(), pod(uid), container(image, v1.PullIfNotPresent), nil)
			return err
		}
		for i, wait := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
			wait *= time.Second
			failed := want(t, ensure("a", "x:1"), "ErrImagePull", "manifest unknown")
			if failed.RetryAfter() != wait {
				t.Fatalf("failure %d: retry after %v, want %v", i, failed.RetryAfter(), wait)
			}
			if got, want := e.take(), []string{`Normal Pulling c: Pulling image "x:1"`, `Warning Failed c: Failed to pull image "x:1": manifest unknown`}; !slices.Equal(got, want) {
				t.Fatalf("events = %q, want %q", got, want)
			}
			time.Sleep(wait - time.Second)
			_, before := n.counts()
			backing := want(t, ensure("a", "x:1"), "ImagePullBackOff", `Back-off pulling image "x:1": ErrImagePull: manifest unknown`)
			if backing.RetryAfter() != time.Second {
				t.Fatalf("failure %d: %v left of the back-off, want 1s", i, backing.RetryAfter())
			}
			if _, pulls := n.counts(); pulls != before {
				t.Fatal("pulled during the back-off")
			}
			if got, want := e.take(), []string{`Normal BackOff c: Back-off pulling image "x:1"`}; !slices.Equal(got, want) {
				t.Fatalf("events = %q, want %q", got, want)
			}
			if i == 0 { // neither another pod nor another image waits
				want(t, ensure("b", "x:1"), "ErrImagePull", "manifest unknown")
				want(t, ensure("a", "y:1"), "ErrImagePull", "manifest unknown")
				e.take()
			}
			time.Sleep(time.Second)
		}
		time.Sleep(2*5*time.Minute + time.Second) // forgotten
		ensureOther := want(t, ensure("b", "z:1"), "ErrImagePull", "manifest unknown")
		_ = ensureOther
		if failed := want(t, ensure("a", "x:1"), "ErrImagePull", "manifest unknown"); failed.RetryAfter() != 10*time.Second {
			t.Errorf("after a long time the back-off is %v, want it to begin anew", failed.RetryAfter())
		}
		if len(m.backoff.entries) > 2 {
			t.Errorf("%d back-offs are remembered, want the old ones forgotten", len(m.backoff.entries))
		}
		n.pull = nil
		time.Sleep(10 * time.Second)
		if err := ensure("a", "x:1"); err != nil {
			t.Fatal(err)
		}
		if left, _ := m.backoff.left(pair{"a", "x:1"}, time.Now()); left > 0 {
			t.Error("a success left a back-off")
		}
	})
}

func TestPullErrorsThatTheRuntimeTellsApart(t *testing.T) {
	for message, tt := range map[string]struct{ reason, want string }{
		"RegistryUnavailable: 503":         {"RegistryUnavailable", "image pull failed for x:1 because the registry is unavailable: 503"},
		"SignatureValidationFailed: bad":   {"SignatureValidationFailed", "image pull failed for x:1 because the signature validation failed: bad"},
		"no such host":                     {"ErrImagePull", "no such host"},
		"wrapped RegistryUnavailable: 503": {"ErrImagePull", "wrapped RegistryUnavailable: 503"},
	} {
		n := newNode()
		n.pull = func(context.Context, *cri.PullImageRequest) error { return status.Error(codes.Unknown, message) }
		m, _ := newManager(t, n, Config{})
		_, err := m.Ensure(t.Context(), pod("a"), container("x:1", v1.PullIfNotPresent), nil)
		want(t, err, tt.reason, tt.want)
	}
}

func TestAnInspectErrorIsNotTakenForAMissingImage(t *testing.T) {
	n := newNode("x:1")
	n.inspect = status.Error(codes.Unavailable, "no daemon")
	m, e := newManager(t, n, Config{})
	_, err := m.Ensure(t.Context(), pod("a"), container("x:1", v1.PullIfNotPresent), nil)
	want(t, err, "ImageInspectError", `Failed to inspect image "x:1": no daemon`)
	if _, pulls := n.counts(); pulls != 0 {
		t.Error("pulled")
	}
	if got, want := e.take(), []string{`Warning InspectFailed c: Failed to inspect image "x:1": no daemon`}; !slices.Equal(got, want) {
		t.Errorf("events = %q, want %q", got, want)
	}
}

func TestABurstOfEqualPodsAsksAndPullsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.pull = func(context.Context, *cri.PullImageRequest) error { time.Sleep(time.Second); return nil }
		m, _ := newManager(t, n, Config{})
		burst := func() {
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					ref, err := m.Ensure(t.Context(), pod(fmt.Sprint(i)), container("x:1", v1.PullIfNotPresent), nil)
					if err != nil || ref != "sha256:x:1" {
						t.Errorf("Ensure = %q, %v", ref, err)
					}
				})
			}
			all.Wait()
		}
		burst()
		if _, pulls := n.counts(); pulls != 1 {
			t.Errorf("pulls = %d, want one for all", pulls)
		}
		time.Sleep(time.Second)
		before, _ := n.counts()
		burst()
		if after, _ := n.counts(); after != before+1 {
			t.Errorf("image statuses asked for = %d, want one for the burst", after-before)
		}
	})
}

func TestAllWhoWaitForAPullHearHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, far := newNode(), &Progress{}
		n.pull = func(ctx context.Context, _ *cri.PullImageRequest) error {
			pull := journal.Of(ctx).Seq() // which the runtime's call says to be its cause
			far.Tell(pull+1000, journal.Text("of another pull"))
			far.Tell(pull, journal.Text("1 of 3"))
			time.Sleep(2500 * time.Millisecond)
			far.Tell(pull, journal.Text("2 of 3"))
			time.Sleep(2500 * time.Millisecond)
			far.Tell(pull, journal.Text("3 of 3"))
			return nil
		}
		m, _ := newManager(t, n, Config{Progress: far})
		told := func() (all []string) {
			events, _ := m.journal.Since(0)
			for _, e := range events {
				if e.Kind == journal.Pull {
					all = append(all, fmt.Sprintf("%s %v %v", e.Pod, e.Detail, e.Took == journal.UnderWay))
				}
			}
			return all
		}
		ctx, cancel := context.WithCancel(t.Context())
		for uid, ctx := range map[string]context.Context{"a": t.Context(), "gone": ctx} {
			go m.Ensure(ctx, pod(uid), container("x:1", v1.PullIfNotPresent), nil)
			time.Sleep(time.Second)
		}
		cancel() // whichever was first
		synctest.Wait()
		go m.Ensure(t.Context(), pod("late"), container("x:1", v1.PullIfNotPresent), nil)
		synctest.Wait()
		if got := told(); len(got) != 3 || !slices.Contains(got, "a 1 of 3 true") || !slices.Contains(got, "gone 1 of 3 false") || got[2] != "late 1 of 3 true" {
			t.Errorf("after two seconds: %q", got)
		}
		time.Sleep(time.Second)
		if got := told(); !slices.Contains(got, "a 2 of 3 true") || got[2] != "late 2 of 3 true" {
			t.Errorf("after three seconds: %q", got)
		}
		time.Sleep(time.Minute)
		if got := told(); !slices.Contains(got, "a 3 of 3 false") || !slices.Contains(got, "gone 1 of 3 false") || got[2] != "late 3 of 3 false" || len(far.pulls) != 0 {
			t.Errorf("at the end: %q, %d pulls", got, len(far.pulls))
		}
	})
}

func TestARemovedImageIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode("x:1")
		m, _ := newManager(t, n, Config{})
		never := container("x:1", v1.PullNever)
		if _, err := m.Ensure(t.Context(), pod("a"), never, nil); err != nil {
			t.Fatal(err)
		}
		delete(n.present, "x:1") // nobody says so: it is noticed by itself
		time.Sleep(freshFor)
		if _, err := m.Ensure(t.Context(), pod("a"), never, nil); err == nil {
			t.Error("a removed image is taken for present")
		}
		n.present["x:1"] = &cri.Image{Id: "back"}
		if ref, err := m.Ensure(t.Context(), pod("a"), never, nil); err != nil || ref != "back" {
			t.Errorf("Ensure = %q, %v; a missing image must be asked for every time", ref, err)
		}
		delete(n.present, "x:1")
		time.Sleep(freshFor)
		if _, err := m.Ensure(t.Context(), pod("a"), never, nil); err == nil {
			t.Error("an image removed behind our back is still taken for present")
		}
	})
}

func TestImageAfterEnsureCostsNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode("x:1")
		m, _ := newManager(t, n, Config{})
		ref, err := m.Ensure(t.Context(), pod("a"), container("x:1", v1.PullIfNotPresent), nil)
		if err != nil {
			t.Fatal(err)
		}
		if img, err := m.Image(t.Context(), ref); err != nil || img.Id != ref {
			t.Errorf("Image = %v, %v", img, err)
		}
		if statuses, _ := n.counts(); statuses != 1 {
			t.Errorf("image statuses asked for = %d, want 1", statuses)
		}
		if _, err := m.Image(t.Context(), "absent"); err == nil {
			t.Error("an absent image has a status")
		}
	})
}

func TestAPullHoldsUpNobodyWhoseImageIsPresent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode("there:1")
		n.pull = func(ctx context.Context, _ *cri.PullImageRequest) error { <-ctx.Done(); return ctx.Err() }
		m, _ := newManager(t, n, Config{Serialize: true})
		ctx, cancel := context.WithCancel(t.Context())
		go m.Ensure(ctx, pod("a"), container("slow:1", v1.PullIfNotPresent), nil)
		synctest.Wait()
		began := time.Now()
		if _, err := m.Ensure(t.Context(), pod("b"), container("there:1", v1.PullIfNotPresent), nil); err != nil {
			t.Fatal(err)
		}
		if time.Since(began) > 0 {
			t.Errorf("waited %v", time.Since(began))
		}
		cancel()
	})
}

func TestAtMostSoManyPullsAtOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		config Config
		most   int
	}{
		"serialized":         {Config{Serialize: true}, 1},
		"serialize wins":     {Config{Serialize: true, MaxParallel: 5}, 1},
		"at most three":      {Config{MaxParallel: 3}, 3},
		"any number at once": {Config{}, 8},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode()
				n.pull = func(context.Context, *cri.PullImageRequest) error { time.Sleep(time.Second); return nil }
				m, _ := newManager(t, n, tt.config)
				var all sync.WaitGroup
				for i := range 8 {
					all.Go(func() {
						if _, err := m.Ensure(t.Context(), pod("a"), container(fmt.Sprintf("x:%d", i), v1.PullIfNotPresent), nil); err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
				if n.most != tt.most {
					t.Errorf("%d pulls at once, want %d", n.most, tt.most)
				}
			})
		})
	}
}

func TestPullsBeginNoFasterThanQPS(t *testing.T) {
	n := newNode()
	m, _ := newManager(t, n, Config{QPS: 100, Burst: 1})
	began := time.Now()
	for i := range 6 {
		if _, err := m.Ensure(t.Context(), pod("a"), container(fmt.Sprintf("x:%d", i), v1.PullIfNotPresent), nil); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < 45*time.Millisecond {
		t.Errorf("6 pulls began within %v, want at least 50 ms at 100 a second", took)
	}
}

func TestAPullGoesOnWhileOneWaitsAndEndsWithTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		cancelled := false
		n.pull = func(ctx context.Context, _ *cri.PullImageRequest) error {
			<-ctx.Done()
			cancelled = true
			return ctx.Err()
		}
		m, e := newManager(t, n, Config{})
		ctxA, endA := context.WithCancel(t.Context())
		ctxB, endB := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		for uid, ctx := range map[string]context.Context{"a": ctxA, "b": ctxB} {
			go func() {
				_, err := m.Ensure(ctx, pod(uid), container("x:1", v1.PullIfNotPresent), nil)
				errs <- err
			}()
		}
		synctest.Wait()
		endA()
		synctest.Wait()
		if cancelled {
			t.Fatal("the pull ended though one still waits for it")
		}
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want the caller's cancellation", err)
		}
		endB()
		synctest.Wait()
		if !cancelled {
			t.Error("the pull goes on though nobody waits for it")
		}
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want the caller's cancellation", err)
		}
		for _, event := range e.take() {
			if strings.HasPrefix(event, "Warning") {
				t.Errorf("event %q for a pull that was given up, not failed", event)
			}
		}
		// A new pod gets a new pull, not the cancelled one, and no back-off.
		n.pull = nil
		if _, err := m.Ensure(t.Context(), pod("a"), container("x:1", v1.PullIfNotPresent), nil); err != nil {
			t.Errorf("the next pod: %v", err)
		}
	})
}

// keys are the credentials that pods have, by the pod's UID.
type keys map[string][]*cri.AuthConfig

func (k keys) Lookup(_ context.Context, p *v1.Pod, _ string) ([]keyring.Credential, error) {
	var found []keyring.Credential
	for _, auth := range k[string(p.UID)] {
		found = append(found, keyring.Credential{Auth: auth, Hash: auth.Password, Source: keyring.Source{Secret: &keyring.Object{Name: auth.Username}}})
	}
	return found, nil
}

func TestCredentialsAreTriedInTurnAndNotSharedBetweenPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.pull = func(_ context.Context, r *cri.PullImageRequest) error {
			time.Sleep(time.Second)
			if r.Auth.GetPassword() != "right" {
				return status.Error(codes.Unknown, "denied to "+r.Auth.GetUsername())
			}
			return nil
		}
		m, _ := newManager(t, n, Config{Keyring: keys{
			"good": {{Username: "old", Password: "wrong"}, {Username: "new", Password: "right"}},
			"bad":  {{Username: "x", Password: "wrong"}, {Username: "y", Password: "wrong"}},
			"same": {{Username: "x", Password: "wrong"}, {Username: "x", Password: "false"}},
		}})
		var all sync.WaitGroup
		for uid, check := range map[string]func(string, error){
			"good": func(ref string, err error) {
				if err != nil || ref != "sha256:x:1" {
					t.Errorf("good credentials: %q, %v", ref, err)
				}
			},
			"bad":  func(_ string, err error) { want(t, err, "ErrImagePull", "[denied to x, denied to y]") },
			"same": func(_ string, err error) { want(t, err, "ErrImagePull", "denied to x") },
			"none": func(_ string, err error) { want(t, err, "ErrImagePull", "denied to ") },
		} {
			all.Go(func() {
				check(m.Ensure(t.Context(), pod(uid), container("x:1", v1.PullAlways), nil))
			})
		}
		all.Wait()
	})
}

// In a bubble, since the records are written to disk, and a back-off may be over before a slow one has them.
func TestAPresentImageIsNotForPodsThatCouldNotPullIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode("loaded:1")
		n.pull = func(_ context.Context, r *cri.PullImageRequest) error {
			if r.Image.Image == "secret:1" && r.Auth.GetPassword() != "right" {
				return status.Error(codes.Unknown, "unauthorized")
			}
			return nil
		}
		policy, err := options.NewImageVerification(kubeletconfig.NeverVerifyPreloadedImages, nil)
		if err != nil {
			t.Fatal(err)
		}
		records, err := record.Open(t.TempDir(), policy, nil)
		if err != nil {
			t.Fatal(err)
		}
		m, e := newManager(t, n, Config{Records: records, Keyring: keys{
			"good": {{Username: "user", Password: "right"}}, "equal": {{Username: "other", Password: "right"}},
			"bad": {{Username: "x", Password: "wrong"}},
		}})
		for _, tt := range []struct {
			pod, image string
			policy     v1.PullPolicy
			pulls      int
			reason     string
			event      string
		}{
			{"none", "secret:1", v1.PullIfNotPresent, 1, "ErrImagePull", "Failed to pull image"},
			{"good", "secret:1", v1.PullIfNotPresent, 1, "", "Successfully pulled"},
			{"good", "secret:1", v1.PullIfNotPresent, 0, "", "can be accessed by the pod"},
			{"good", "secret:1", v1.PullNever, 0, "", "can be accessed by the pod"},
			{"equal", "secret:1", v1.PullIfNotPresent, 0, "", "can be accessed by the pod"},
			{"none2", "secret:1", v1.PullNever, 0, "ErrImageNeverPull", "is not present with pull policy of Never"},
			{"none2", "secret:1", v1.PullIfNotPresent, 1, "ErrImagePull", "Failed to pull image"},
			{"none2", "secret:1", v1.PullIfNotPresent, 0, "ImagePullBackOff", "Back-off pulling image"},
			{"bad", "secret:1", v1.PullIfNotPresent, 1, "ErrImagePull", "Failed to pull image"},
			{"none", "loaded:1", v1.PullIfNotPresent, 0, "", "can be accessed by the pod"},
			{"none", "public:1", v1.PullIfNotPresent, 1, "", "Successfully pulled"},
			{"bad", "public:1", v1.PullIfNotPresent, 0, "", "can be accessed by the pod"},
		} {
			_, before := n.counts()
			_, err := m.Ensure(t.Context(), pod(tt.pod), container(tt.image, tt.policy), nil)
			reason := ""
			var failed *Error
			if errors.As(err, &failed) {
				reason = failed.Reason()
			} else if err != nil {
				t.Fatal(err)
			}
			events := strings.Join(e.take(), "\n")
			if _, after := n.counts(); reason != tt.reason || after-before != tt.pulls || !strings.Contains(events, tt.event) {
				t.Errorf("%s, %s, %s: %d pulls, %q, events:\n%s\nwant %d pulls, %q and %q", tt.pod, tt.image, tt.policy, after-before, reason, events, tt.pulls, tt.reason, tt.event)
			}
		}
	})
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for name, c := range map[string]Config{
		"no service":        {},
		"negative parallel": {Images: newNode(), MaxParallel: -1},
		"negative QPS":      {Images: newNode(), QPS: -1},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// collector removes an image between the question for it and its claim.
type collector struct {
	n     *node
	left  int // how often
	seen  []time.Time
	claim []string
}

func (c *collector) Claim(_ context.Context, id string, seen time.Time) bool {
	c.claim, c.seen = append(c.claim, id), append(c.seen, seen)
	if c.left == 0 {
		return true
	}
	c.left--
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	for name, img := range c.n.present {
		if img.Id == id {
			delete(c.n.present, name)
		}
	}
	return false
}

func TestAnImageThatIsRemovedMeanwhileIsPulledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		c := &collector{n: n}
		m, _ := newManager(t, n, Config{Collector: c})
		ensure := func(p v1.PullPolicy) error {
			_, err := m.Ensure(t.Context(), pod("a"), container("x:1", p), nil)
			return err
		}
		if err := ensure(v1.PullIfNotPresent); err != nil {
			t.Fatal(err)
		}
		if _, pulls := n.counts(); pulls != 1 || len(c.claim) != 1 {
			t.Fatalf("%d pulls, claimed %q", pulls, c.claim)
		}
		began := time.Now()
		c.left = 1 // what is known from before is not believed
		if err := ensure(v1.PullIfNotPresent); err != nil {
			t.Fatal(err)
		}
		if _, pulls := n.counts(); pulls != 2 || len(c.claim) != 3 || c.seen[1].After(began) {
			t.Errorf("%d pulls, claimed %q, seen %v", pulls, c.claim, c.seen)
		}
		c.left = 1
		if failed := want(t, ensure(v1.PullAlways), "ErrImagePull", `image "x:1" was removed as unused while it was pulled`); failed.RetryAfter() != time.Second {
			t.Errorf("retry after %v", failed.RetryAfter())
		}
		if err := ensure(v1.PullAlways); err != nil {
			t.Error(err)
		}
	})
}

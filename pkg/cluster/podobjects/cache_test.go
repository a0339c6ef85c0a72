package podobjects

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// podOf returns a pod that refers to ConfigMaps.
func podOf(uid string, names ...string) *v1.Pod {
	p := &v1.Pod{}
	p.Namespace, p.Name, p.UID = "ns", "pod-"+uid, types.UID(uid)
	for _, n := range names {
		p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: local(n)}}})
	}
	return p
}

// start runs a Cache and returns the changes that it reports.
func start(t *testing.T, cfg Config) (*Cache, <-chan []types.UID) {
	t.Helper()
	changes := make(chan []types.UID, 100)
	cfg.Changed = func(pods []types.UID) { changes <- pods }
	cfg.Patience = testrun.Patience // a test of what is answered is none of who waits too long
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, c.Run)
	return c, changes
}

func value(t *testing.T, c *Cache, name string) string {
	t.Helper()
	m, err := c.ConfigMap(t.Context(), "ns", name)
	if err != nil {
		t.Fatalf("ConfigMap %s: %v", name, err)
	}
	return m.Data["k"]
}

func changed(t *testing.T, changes <-chan []types.UID, want ...types.UID) {
	t.Helper()
	select {
	case got := <-changes:
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("pods told of = %v, want %v", got, want)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("nobody was told of the change")
	}
}

func TestAnObjectIsWatchedWhileAPodRefersToIt(t *testing.T) {
	s, client := newAPIServer(t)
	s.put(configMapOf("a", "1"))
	c, changes := start(t, Config{Client: client})
	one, two := podOf("1", "a", "a"), podOf("2", "a")
	c.Register(one)
	c.Register(one)
	c.Register(two)
	for range 3 {
		if got := value(t, c, "a"); got != "1" {
			t.Fatalf("value %q", got)
		}
	}
	if n := s.count("watch configmaps/ns/a"); n != 1 {
		t.Errorf("%d watches were opened, want one", n)
	}
	s.put(configMapOf("a", "2"))
	changed(t, changes, "1", "2")
	if got := value(t, c, "a"); got != "2" {
		t.Errorf("value %q after the change", got)
	}

	c.Unregister("1")
	c.Unregister("1")
	s.put(configMapOf("a", "3"))
	changed(t, changes, "2")
	c.Unregister("2")
	testrun.Eventually(t, "the watch of an object that no pod refers to goes on", func() bool { return s.watching("configmaps/ns/a") == 0 })
	if _, err := c.ConfigMap(t.Context(), "ns", "a"); err == nil || !strings.Contains(err.Error(), `object "ns"/"a" not registered`) {
		t.Errorf("of an object that no pod refers to: %v", err)
	}
}

func TestAPodThatRefersToOthersNowIsWatchedForThose(t *testing.T) {
	s, client := newAPIServer(t)
	s.put(configMapOf("a", "1"))
	s.put(configMapOf("b", "1"))
	s.put(configMapOf("c", "1"))
	c, _ := start(t, Config{Client: client})
	c.Register(podOf("1", "a", "b"))
	value(t, c, "a")
	value(t, c, "b")
	c.Register(podOf("1", "b", "c"))
	value(t, c, "c")
	testrun.Eventually(t, "the old reference is still watched", func() bool { return s.watching("configmaps/ns/a") == 0 })
	if n := s.count("watch configmaps/ns/b"); n != 1 {
		t.Errorf("the kept reference was watched %d times, want once", n)
	}
}

func TestSecretsAndConfigMapsOfOneNameAreTwo(t *testing.T) {
	s, client := newAPIServer(t)
	s.put(configMapOf("a", "map"))
	s.put(secretOf("a", "secret"))
	c, _ := start(t, Config{Client: client})
	p := podOf("1", "a")
	p.Spec.ImagePullSecrets = []v1.LocalObjectReference{local("a")}
	c.Register(p)
	got, err := c.Secret(t.Context(), "ns", "a")
	if err != nil || string(got.Data["k"]) != "secret" || value(t, c, "a") != "map" {
		t.Errorf("secret %v, %v", got, err)
	}
}

func TestAMissingObjectIsNotFoundUntilItIsCreated(t *testing.T) {
	s, client := newAPIServer(t)
	c, changes := start(t, Config{Client: client})
	p := podOf("1", "a")
	p.Spec.ImagePullSecrets = []v1.LocalObjectReference{local("s")}
	c.Register(p)
	_, err := c.ConfigMap(t.Context(), "ns", "a")
	if !apierrors.IsNotFound(err) || err.Error() != `configmap "a" not found` {
		t.Fatalf("error = %v", err)
	}
	if _, err := c.Secret(t.Context(), "ns", "s"); !apierrors.IsNotFound(err) || err.Error() != `secret "s" not found` {
		t.Fatalf("error = %v", err)
	}
	testrun.Eventually(t, "no watch", func() bool { return s.watching("configmaps/ns/a") == 1 })
	s.put(configMapOf("a", "1"))
	changed(t, changes, "1")
	if got := value(t, c, "a"); got != "1" {
		t.Errorf("value %q", got)
	}
	s.remove("configmaps/ns/a")
	changed(t, changes, "1")
	if _, err := c.ConfigMap(t.Context(), "ns", "a"); !apierrors.IsNotFound(err) {
		t.Errorf("error after its deletion = %v", err)
	}
}

func TestAnImmutableObjectIsNotWatchedOn(t *testing.T) {
	s, client := newAPIServer(t)
	yes := true
	m := configMapOf("a", "1")
	m.Immutable = &yes
	s.put(configMapOf("a", "0"))
	c, changes := start(t, Config{Client: client})
	c.Register(podOf("1", "a"))
	value(t, c, "a")
	s.put(m)
	changed(t, changes, "1")
	testrun.Eventually(t, "it is still watched", func() bool { return s.watching("configmaps/ns/a") == 0 })
	s.remove("configmaps/ns/a")
	c.Register(podOf("2", "a"))
	if got := value(t, c, "a"); got != "1" {
		t.Errorf("value %q", got)
	}
	c.Unregister("1")
	c.Unregister("2")
	c.Register(podOf("3", "a"))
	if _, err := c.ConfigMap(t.Context(), "ns", "a"); !apierrors.IsNotFound(err) {
		t.Errorf("a pod of later sees what is gone: %v", err)
	}
}

func TestWhatIsKnownIsServedWhileTheAPIServerIsAway(t *testing.T) {
	s, client := newAPIServer(t)
	s.put(configMapOf("a", "1"))
	c, changes := start(t, Config{Client: client})
	c.Register(podOf("1", "a"))
	value(t, c, "a")
	s.fail(true)
	testrun.Eventually(t, "the watch survived", func() bool { return s.watching("configmaps/ns/a") == 0 })
	if got := value(t, c, "a"); got != "1" {
		t.Errorf("value %q", got)
	}
	c.Register(podOf("2", "a", "b"))
	if got := value(t, c, "a"); got != "1" {
		t.Errorf("value %q for a pod of the meantime", got)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, context.DeadlineExceeded)
	defer cancel()
	_, err := c.ConfigMap(ctx, "ns", "b")
	if err == nil || apierrors.IsNotFound(err) || !strings.Contains(err.Error(), "failed to sync configmap cache") {
		t.Errorf("of an object that nobody has seen: %v", err)
	}
	s.put(configMapOf("b", "1"))
	s.fail(false)
	changed(t, changes, "2") // the one that got no answer
	if value(t, c, "a") != "1" || value(t, c, "b") != "1" {
		t.Error("wrong values after the server's return")
	}
}

func TestAListThatShowsNothingNewTellsNobody(t *testing.T) {
	_, client := newAPIServer(t)
	told := 0
	c, err := New(Config{Client: client, Changed: func([]types.UID) { told++ }})
	if err != nil {
		t.Fatal(err)
	}
	c.Register(podOf("1", "a"))
	s := store{c, c.entries[key{configMap, "ns", "a"}]}
	version := func(v string) []any {
		m := configMapOf("a", v)
		m.ResourceVersion = v
		return []any{m}
	}
	for _, step := range []struct {
		list []any
		told int
	}{{version("1"), 0}, {version("1"), 0}, {version("2"), 1}, {nil, 2}, {nil, 2}, {version("2"), 3}} {
		if err := s.Replace(step.list, ""); err != nil || told != step.told {
			t.Errorf("list %v: told %d times, %v; want %d", step.list, told, err, step.told)
		}
	}
}

func TestAPodOfManyObjectsWaitsForAllTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, err := core.NewForConfig(&rest.Config{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(Config{Client: client}) // not run: no answer will come
		if err != nil {
			t.Fatal(err)
		}
		names := []string{"a", "b", "c", "d"}
		c.Register(podOf("1", names...))
		begin := time.Now()
		for _, n := range names {
			if _, err := c.ConfigMap(t.Context(), "ns", n); err == nil || err.Error() != "failed to sync configmap cache: timed out waiting for the condition" {
				t.Errorf("error = %v", err)
			}
		}
		if took := time.Since(begin); took != syncWait {
			t.Errorf("waited %v, want %v for all", took, syncWait)
		}
	})
}

func TestRegisteredBeforeRunIsWatchedByRun(t *testing.T) {
	s, client := newAPIServer(t)
	s.put(configMapOf("a", "1"))
	c, err := New(Config{Client: client, Patience: testrun.Patience})
	if err != nil {
		t.Fatal(err)
	}
	c.Register(podOf("1", "a"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	if got := value(t, c, "a"); got != "1" {
		t.Errorf("value %q", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.Register(podOf("2", "b")) // starts nothing that nobody would wait for
	if got := value(t, c, "a"); got != "1" {
		t.Errorf("value %q after Run", got)
	}
	c.Unregister("2")
}

func TestTheGetStrategyAsksEveryTime(t *testing.T) {
	s, client := newAPIServer(t)
	c, _ := start(t, Config{Client: client, Strategy: kubeletconfig.GetChangeDetectionStrategy})
	c.Register(podOf("1", "a"))
	if _, err := c.ConfigMap(t.Context(), "ns", "a"); !apierrors.IsNotFound(err) || err.Error() != `configmap "a" not found` {
		t.Errorf("error = %v", err)
	}
	for _, v := range []string{"1", "2"} {
		s.put(configMapOf("a", v))
		if got := value(t, c, "a"); got != v {
			t.Errorf("value %q, want %q", got, v)
		}
	}
	if s.count("watch configmaps/ns/a") != 0 || s.count("get configmaps/ns/a") != 3 {
		t.Errorf("requests: %v", s.seen)
	}
	s.fail(true)
	if _, err := c.ConfigMap(t.Context(), "ns", "a"); err == nil {
		t.Error("an answer without a server")
	}
}

func TestTheCacheStrategyAsksWhenItsAnswerIsOld(t *testing.T) {
	s, client := newAPIServer(t)
	clock := clocktesting.NewFakePassiveClock(time.Now())
	s.put(configMapOf("a", "1"))
	c, _ := start(t, Config{Client: client, Strategy: kubeletconfig.TTLCacheChangeDetectionStrategy, Clock: clock})
	c.Register(podOf("1", "a"))
	step := func(what, want string) {
		t.Helper()
		if got := value(t, c, "a"); got != want {
			t.Errorf("%s: value %q, want %q", what, got, want)
		}
	}
	step("at first", "1")
	s.put(configMapOf("a", "2"))
	step("within the ttl", "1")
	clock.SetTime(clock.Now().Add(61 * time.Second))
	step("after the ttl", "2")
	s.put(configMapOf("a", "3"))
	c.Register(podOf("2", "a"))
	step("for a new pod", "3")
	s.put(configMapOf("a", "4"))
	c.Register(podOf("2", "a"))
	step("for the same pod once more", "3")
	s.fail(true)
	clock.SetTime(clock.Now().Add(61 * time.Second))
	step("without a server", "3")
	c.Register(podOf("3", "a"))
	step("for a new pod without a server", "3")
	s.fail(false)
	s.remove("configmaps/ns/a")
	if _, err := c.ConfigMap(t.Context(), "ns", "a"); !apierrors.IsNotFound(err) {
		t.Errorf("error after its deletion = %v", err)
	}
}

func TestNewRefusesWhatItCannotDo(t *testing.T) {
	_, client := newAPIServer(t)
	for name, cfg := range map[string]Config{"no Client": {}, "unknown strategy": {Client: client, Strategy: "Poll"}} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

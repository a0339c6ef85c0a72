package readiness

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// fake is a runtime.
type fake struct {
	mu      sync.Mutex
	answer  *cri.StatusResponse
	err     error // of Status
	refuses error // of UpdateRuntimeConfig
	looks   int
	cidrs   []string
	woken   []types.UID
	better  bool
	cidr    string // as the node has it
}

func (f *fake) Status(ctx context.Context, _ *cri.StatusRequest, _ ...grpc.CallOption) (*cri.StatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	return f.answer, f.err
}

func (f *fake) UpdateRuntimeConfig(_ context.Context, req *cri.UpdateRuntimeConfigRequest, _ ...grpc.CallOption) (*cri.UpdateRuntimeConfigResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cidrs = append(f.cidrs, req.RuntimeConfig.NetworkConfig.PodCidr)
	return &cri.UpdateRuntimeConfigResponse{}, f.refuses
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) follow(t *testing.T, cfg Config) *Watch {
	t.Helper()
	cfg.Runtime = f
	cfg.Improved = func() { f.set(func() { f.better = true }) }
	cfg.Wake = func(uids []types.UID) { f.set(func() { f.woken = append(f.woken, uids...) }) }
	if cfg.PodCIDR == nil {
		cfg.PodCIDR = func() string {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.cidr
		}
	}
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// improved reports whether the Watch has said so since it was asked last.
func (f *fake) improved() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	is := f.better
	f.better = false
	return is
}

func TestPodsWaitForTheNetworkAndAreWokenWhenItIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: answer(true, false)}
		w := f.follow(t, Config{})
		if err := w.Network(t.Context(), "p"); err == nil || err.Error() != notReady {
			t.Fatalf("the network is %v", err)
		}
		f.improved() // the runtime itself
		f.set(func() { f.answer = answer(true, true) })
		begun := time.Now()
		time.Sleep(eager)
		synctest.Wait()
		if !slices.Equal(f.woken, []types.UID{"p"}) || !f.improved() {
			t.Errorf("after %v woken: %v", time.Since(begun), f.woken)
		}
		if err := w.Network(t.Context(), "p"); err != nil {
			t.Error(err)
		}
		f.set(func() { f.answer, f.woken = answer(true, false), nil })
		time.Sleep(usual)
		synctest.Wait()
		if err := w.Network(t.Context(), "q"); err == nil || f.improved() {
			t.Errorf("the network went away: %v", err)
		}
		f.set(func() { f.answer = answer(true, true) })
		if _, err := w.Look(t.Context()); err != nil { // somebody else looks
			t.Fatal(err)
		}
		if !slices.Equal(f.woken, []types.UID{"q"}) {
			t.Errorf("woken: %v", f.woken)
		}
	})
}

func TestAReadyRuntimeIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: answer(true, true), cidr: "10.1.0.0/24"}
		changed := make(chan struct{}, 1)
		f.follow(t, Config{Changed: changed})
		synctest.Wait()
		f.set(func() { f.looks = 0 })
		for range 60 { // the node object changes each second
			time.Sleep(time.Second)
			changed <- struct{}{}
		}
		synctest.Wait()
		if f.looks != 12 || len(f.cidrs) != 1 {
			t.Errorf("%d looks in a minute, pod CIDRs told: %v", f.looks, f.cidrs)
		}
	})
}

func TestARuntimeThatDoesNotAnswerKeepsTheStateOfItsNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{err: errors.New("away")}
		w := f.follow(t, Config{})
		if err := w.Network(t.Context(), "p"); !errors.Is(err, errUnknown) {
			t.Errorf("before its first answer: %v", err)
		}
		f.set(func() { f.answer, f.err = answer(true, true), nil })
		time.Sleep(eager)
		synctest.Wait()
		f.set(func() { f.answer, f.err = nil, errors.New("away") })
		time.Sleep(usual)
		synctest.Wait()
		if err := w.Network(t.Context(), "p"); err != nil {
			t.Errorf("while it is away: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.Look(ctx); err == nil {
			t.Error("an answer from a runtime that is away")
		}
	})
}

func TestNetworkWaitsForTheFirstLook(t *testing.T) {
	w, err := New(Config{Runtime: &fake{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Network(ctx, "p"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a Watch without a runtime")
	}
}

func TestThePodCIDRReachesTheRuntime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: answer(true, false), refuses: errors.New("not now")}
		changed := make(chan struct{}, 1)
		f.follow(t, Config{Changed: changed})
		synctest.Wait()
		told := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			f.set(func() {
				if !slices.Equal(f.cidrs, want) {
					t.Errorf("%s: told %v, want %v", what, f.cidrs, want)
				}
				f.cidrs = nil
			})
		}
		told("none is known")
		f.set(func() { f.cidr = "10.1.0.0/24,fd00::/64" })
		changed <- struct{}{}
		told("it is known", "10.1.0.0/24,fd00::/64")
		f.set(func() { f.refuses = nil })
		time.Sleep(eager)
		told("it was refused", "10.1.0.0/24,fd00::/64")
		f.set(func() { f.answer = answer(true, true) })
		time.Sleep(time.Hour)
		told("it has it")
		f.set(func() { f.err = errors.New("away") })
		time.Sleep(2 * usual)
		f.set(func() { f.err = nil })
		time.Sleep(2 * usual)
		told("it was started anew", "10.1.0.0/24,fd00::/64")
		f.set(func() { f.answer = answer(true, false) })
		time.Sleep(2 * usual)
		told("its network is not ready any more", "10.1.0.0/24,fd00::/64")
		f.set(func() {
			f.answer, f.cidr, f.refuses = answer(true, true), "10.2.0.0/24", status.Error(codes.Unimplemented, "no such thing")
		})
		time.Sleep(2 * usual)
		told("another, and the runtime does not care", "10.2.0.0/24")
	})
}

func TestTheLastPodCIDRIsKnownAtTheNextStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "podcidr")
	start := func(cidr string) []string {
		var got []string
		synctest.Test(t, func(t *testing.T) {
			f := &fake{answer: answer(true, true), cidr: cidr}
			f.follow(t, Config{File: file})
			synctest.Wait()
			got = f.cidrs
		})
		return got
	}
	for i, step := range []struct {
		cidr string
		want []string
	}{{"", nil}, {"10.1.0.0/24", []string{"10.1.0.0/24"}}, {"", []string{"10.1.0.0/24"}}, {"10.2.0.0/24", []string{"10.2.0.0/24"}}, {"", []string{"10.2.0.0/24"}}} {
		if got := start(step.cidr); !slices.Equal(got, step.want) {
			t.Errorf("start %d with %q: told %v, want %v", i, step.cidr, got, step.want)
		}
	}
	if err := os.WriteFile(file, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := start(""); got != nil {
		t.Errorf("a damaged file: told %v", got)
	}
}

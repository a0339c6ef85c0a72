package readiness

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
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
	node    bool   // there is one without
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
		cfg.PodCIDR = func() (string, bool) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.cidr, f.node || f.cidr != ""
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
			time.Sleep(keptAfter + usual)
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

// TestTheLastPodCIDRIsNotThatOfANodeThatJoinedAgain: a network may not take another one afterwards.
func TestTheLastPodCIDRIsNotThatOfANodeThatJoinedAgain(t *testing.T) {
	const old, now = "10.1.0.0/24", "10.2.0.0/24"
	for name, tt := range map[string]struct {
		known, given, deleted time.Duration // when the node object is, and has a CIDR; and is not any more, 0: never
		want                  []string
	}{
		"at once":                       {0, 0, 0, []string{now}},
		"the API server is slow":        {8 * time.Second, 8 * time.Second, 0, []string{now}},
		"it gives none for long":        {8 * time.Second, time.Minute, 0, []string{now}},
		"it gives none, and it is gone": {8 * time.Second, time.Hour, 9 * time.Second, nil},
		"it is away":                    {time.Hour, time.Hour, 0, []string{old}},
		"it comes back":                 {time.Minute, time.Minute, 0, []string{old, now}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "podcidr")
			if err := os.WriteFile(file, []byte(old), 0o600); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				f, changed, began := &fake{answer: answer(true, false)}, make(chan struct{}, 1), time.Now()
				f.follow(t, Config{File: file, Changed: changed, PodCIDR: func() (cidr string, node bool) {
					since := time.Since(began)
					if node = since >= tt.known && (tt.deleted == 0 || since < tt.deleted); node && since >= tt.given {
						cidr = now
					}
					return cidr, node
				}})
				for range 65 {
					time.Sleep(time.Second)
					changed <- struct{}{}
				}
				synctest.Wait()
				if got := slices.Compact(f.cidrs); !slices.Equal(got, tt.want) {
					t.Errorf("told %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// TestADiskThatHangsHoldsUpNobody: the pod CIDR is written without the lock.
func TestADiskThatHangsHoldsUpNobody(t *testing.T) {
	file := filepath.Join(t.TempDir(), "podcidr")
	w, err := New(Config{Runtime: &fake{}, File: file, PodCIDR: func() (string, bool) { return "10.1.0.0/24", true }})
	if err != nil {
		t.Fatal(err)
	}
	close(w.looked)
	w.mu.Lock()
	defer w.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.keep()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("who writes the file has to wait for the lock, or holds it")
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "10.1.0.0/24" {
		t.Errorf("kept: %q, %v", got, err)
	}
}

func TestPodsThatAreGoneDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: answer(true, false)}
		w := f.follow(t, Config{})
		for _, pod := range []types.UID{"stays", "goes"} {
			if err := w.Network(t.Context(), pod); err == nil {
				t.Error("the network is ready")
			}
		}
		w.Forget("goes")
		f.set(func() { f.answer = answer(true, true) })
		time.Sleep(eager)
		synctest.Wait()
		if !slices.Equal(f.woken, []types.UID{"stays"}) {
			t.Errorf("woken: %v", f.woken)
		}
	})
}

func TestARuntimeThatNeedsNoPodCIDRIsNotSaidToHaveIt(t *testing.T) {
	const has = "The container runtime has the pod CIDR"
	for name, tt := range map[string]struct {
		refuses error
		said    bool
	}{
		"it takes it":   {nil, true},
		"it needs none": {status.Error(codes.Unimplemented, "no such thing"), false},
		"it refuses":    {errors.New("not now"), false},
	} {
		var log bytes.Buffer
		klog.LogToStderr(false)
		klog.SetOutput(&log)
		synctest.Test(t, func(t *testing.T) {
			(&fake{answer: answer(true, true), cidr: "10.1.0.0/24", refuses: tt.refuses}).follow(t, Config{})
			synctest.Wait()
		})
		klog.Flush()
		klog.LogToStderr(true)
		if strings.Contains(log.String(), has) != tt.said {
			t.Errorf("%s: the log has %q", name, log.String())
		}
	}
}

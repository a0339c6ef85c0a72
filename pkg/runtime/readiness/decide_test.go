package readiness

import (
	"errors"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

func answer(runtime, network bool) *cri.StatusResponse {
	c := &cri.RuntimeCondition{Type: cri.NetworkReady, Status: network}
	if !network {
		c.Reason, c.Message = "NetworkPluginNotReady", "no configuration"
	}
	return &cri.StatusResponse{Status: &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{{Type: cri.RuntimeReady, Status: runtime}, c}}}
}

const notReady = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:no configuration"

func TestHealthOf(t *testing.T) {
	for name, tc := range map[string]struct {
		status  *cri.RuntimeStatus
		runtime bool
		network string // "": ready
	}{
		"both":       {answer(true, true).Status, true, ""},
		"no network": {answer(true, false).Status, true, notReady},
		"no runtime": {answer(false, true).Status, false, ""},
		"at any length": {&cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{{Type: cri.RuntimeReady, Status: true},
			{Type: cri.NetworkReady, Reason: "R", Message: strings.Repeat("x", 1<<20)}}},
			true, "container runtime network not ready: NetworkReady=false reason:R message:" + bounds.Cut(strings.Repeat("x", 1<<20), maxTold)},
		"nothing":              {nil, false, "container runtime network not ready: network condition missing"},
		"a condition is null":  {&cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{nil}}, false, "container runtime network not ready: network condition missing"},
		"conditions of others": {&cri.RuntimeStatus{Conditions: append(answer(true, true).Status.Conditions, &cri.RuntimeCondition{Type: "Containerd"})}, true, ""},
	} {
		h := healthOf(tc.status)
		text := ""
		if h.network != nil {
			text = h.network.Error()
		}
		if h.runtime != tc.runtime || text != tc.network {
			t.Errorf("%s: runtime %v, network %q", name, h.runtime, text)
		}
	}
}

func TestBetterAndPause(t *testing.T) {
	bad := errors.New("no network")
	for name, tc := range map[string]struct {
		was, is health
		better  bool
		pause   time.Duration
	}{
		"stays ready":         {health{true, nil}, health{true, nil}, false, usual},
		"network comes":       {health{true, bad}, health{true, nil}, true, usual},
		"network goes":        {health{true, nil}, health{true, bad}, false, eager},
		"runtime comes":       {health{false, nil}, health{true, nil}, true, usual},
		"runtime goes":        {health{true, nil}, health{false, bad}, false, eager},
		"another reason":      {health{true, errUnknown}, health{true, bad}, false, eager},
		"runtime, no network": {health{false, bad}, health{true, bad}, true, eager},
	} {
		if got := better(tc.was, tc.is); got != tc.better {
			t.Errorf("%s: better is %v", name, got)
		}
		if got := pause(tc.is, true); got != tc.pause {
			t.Errorf("%s: pause is %v", name, got)
		}
	}
	if got := pause(health{true, nil}, false); got != eager {
		t.Errorf("without an answer: pause is %v", got)
	}
}

func TestWhichPodCIDRIsWanted(t *testing.T) {
	const old, now = "10.1.0.0/24", "10.2.0.0/24"
	for name, tc := range map[string]struct {
		known string
		node  bool
		kept  string
		after time.Duration
		want  string
	}{
		"a start":                              {"", false, old, 0, ""},
		"nothing is known yet":                 {"", false, old, keptAfter - 1, ""},
		"nothing is known for long":            {"", false, old, keptAfter, old},
		"there never was one":                  {"", false, "", time.Hour, ""},
		"the node has one":                     {now, true, old, 0, now},
		"the node has one after all":           {now, true, old, time.Hour, now},
		"the node has none yet":                {"", true, old, 0, ""},
		"the node has none, and it takes long": {"", true, old, time.Hour, ""},
	} {
		if got := wanted(tc.known, tc.node, tc.kept, tc.after); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestWhenARuntimeIsToldOfThePodCIDR(t *testing.T) {
	at := time.Unix(1000, 0)
	refused := errors.New("no")
	a, b := "10.1.0.0/24", "10.2.0.0/24"
	accepted := told{}.took(a, at, nil)
	failed := told{}.took(a, at, refused)
	often := failed
	for range 20 {
		often = often.took(a, at, refused)
	}
	changed := accepted.took(b, at, refused)
	for name, tc := range map[string]struct {
		told   told
		wanted string
		ready  bool
		after  time.Duration
		want   bool
	}{
		"none is known":                       {told{}, "", false, time.Hour, false},
		"the first":                           {told{}, a, false, 0, true},
		"it has it":                           {accepted, a, true, time.Hour, false},
		"another":                             {accepted, b, true, 0, true},
		"it was taken away from the node":     {accepted, "", true, time.Hour, false},
		"the network is not ready for long":   {accepted, a, false, lastRetry, true},
		"the network is not ready yet":        {accepted, a, false, lastRetry - 1, false},
		"refused just now":                    {failed, a, false, firstRetry - 1, false},
		"refused a while ago":                 {failed, a, false, firstRetry, true},
		"refused, and now there is another":   {failed, b, false, 0, true},
		"refused again and again":             {often, a, false, lastRetry - 1, false},
		"refused again and again, a while":    {often, a, false, lastRetry, true},
		"a change that was refused just now":  {changed, b, true, firstRetry - 1, false},
		"a change that was refused":           {changed, b, true, firstRetry, true},
		"a change that was refused and taken": {changed.took(b, at, nil), b, true, time.Hour, false},
		"a runtime that is back":              {accepted.forgotten(), a, true, 0, true},
	} {
		if got := tc.told.due(tc.wanted, tc.ready, at.Add(tc.after)); got != tc.want {
			t.Errorf("%s: due is %v", name, got)
		}
	}
}

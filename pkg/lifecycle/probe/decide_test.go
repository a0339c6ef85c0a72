package probe

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestBegin(t *testing.T) {
	for name, tc := range map[string]struct {
		kind kind
		past past
		want state
	}{
		"liveness of a new container":                       {liveness, past{}, state{verdict: success}},
		"liveness of an old container":                      {liveness, past{ranBefore: true}, state{verdict: success}},
		"startup of a new container":                        {startup, past{}, state{}},
		"startup that is known to be over":                  {startup, past{ranBefore: true, known: true, started: true}, state{verdict: success, hold: true}},
		"startup that is known not to be over":              {startup, past{ranBefore: true, known: true}, state{}},
		"startup of which nobody knows":                     {startup, past{ranBefore: true}, state{verdict: success, assumed: true}},
		"readiness of a new container":                      {readiness, past{}, state{verdict: failure}},
		"readiness of a container that is known to be so":   {readiness, past{ranBefore: true, known: true, ready: true}, state{verdict: success}},
		"readiness of a container that is known not to be":  {readiness, past{ranBefore: true, known: true}, state{verdict: failure}},
		"readiness of a container of which nobody knows":    {readiness, past{ranBefore: true}, state{verdict: success, assumed: true}},
		"readiness of a container known by this same agent": {readiness, past{known: true, ready: true}, state{verdict: success}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := begin(tc.kind, tc.past); got != tc.want {
				t.Errorf("begins as %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestTake(t *testing.T) {
	old := past{ranBefore: true}
	for name, tc := range map[string]struct {
		kind     kind
		past     past
		ok, fail int32  // thresholds
		runs     string // s and f
		want     string // verdict after each: s, f, or u; upper case where it is on hold
	}{
		"readiness follows each result":                      {readiness, past{}, 1, 1, "sfsf", "sfsf"},
		"readiness needs failures in a row":                  {readiness, past{}, 1, 3, "sffsfff", "ssssssf"},
		"readiness needs successes in a row":                 {readiness, past{}, 2, 1, "sfssf", "fffsf"},
		"readiness that was goes on":                         {readiness, past{ranBefore: true, known: true, ready: true}, 1, 3, "fff", "ssf"},
		"readiness that is assumed is decided by the first":  {readiness, old, 1, 3, "fs", "fs"},
		"readiness that is assumed, confirmed":               {readiness, old, 3, 2, "sff", "ssf"},
		"liveness fails at its threshold and holds":          {liveness, past{}, 1, 3, "ffsfff", "sssssF"},
		"liveness with threshold one":                        {liveness, past{}, 1, 1, "sf", "sF"},
		"startup ends with the first success":                {startup, past{}, 1, 3, "ffs", "uuS"},
		"startup fails at its threshold":                     {startup, past{}, 1, 3, "fff", "uuF"},
		"startup that was assumed":                           {startup, old, 1, 3, "s", "S"},
		"startup that was assumed and is not over":           {startup, old, 1, 3, "fs", "uS"},
		"startup that was assumed, and fails, with patience": {startup, old, 1, 3, "fff", "uuF"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &v1.Probe{SuccessThreshold: tc.ok, FailureThreshold: tc.fail}
			s, got := begin(tc.kind, tc.past), ""
			for _, r := range tc.runs {
				s = s.take(tc.kind, p, map[rune]result{'s': success, 'f': failure}[r])
				letter := map[result]string{unknown: "u", success: "s", failure: "f"}[s.verdict]
				if s.hold {
					letter = map[result]string{unknown: "U", success: "S", failure: "F"}[s.verdict]
				}
				got += letter
			}
			if got != tc.want {
				t.Errorf("after %s: %s, want %s", tc.runs, got, tc.want)
			}
		})
	}
}

func TestQuiet(t *testing.T) {
	for name, tc := range map[string]struct{ was, want result }{
		"what lives goes on":        {success, success},
		"what failed is not killed": {failure, unknown},
		"what has not started":      {unknown, unknown},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (state{verdict: tc.was}).quiet(); got != (state{verdict: tc.want, hold: true}) {
				t.Errorf("%+v", got)
			}
		})
	}
}

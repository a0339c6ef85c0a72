package main

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	const (
		start = `{"Action":"start","Package":"m/p"}` + "\n"
		skip  = `{"Action":"output","Package":"m/p","Test":"TestS","Output":"=== RUN   TestS\n"}
{"Action":"output","Package":"m/p","Test":"TestS","Output":"    x_test.go:3: no such kernel\n"}
{"Action":"output","Package":"m/p","Test":"TestS","Output":"--- SKIP: TestS (0.00s)\n"}
{"Action":"skip","Package":"m/p","Test":"TestS"}
`
		ok = `{"Action":"output","Package":"m/p","Output":"ok  \tm/p\t0.1s\n"}
{"Action":"pass","Package":"m/p"}
`
		bad = `{"Action":"output","Package":"m/p","Test":"TestB","Output":"    x_test.go:9: broken\n"}
{"Action":"output","Package":"m/p","Test":"TestB","Output":"        I1129 00:48:41.902100    7168 a.go:434] some agent's log\n"}
{"Action":"fail","Package":"m/p","Test":"TestB"}
{"Action":"output","Package":"m/p","Output":"FAIL\tm/p\t0.1s\n"}
{"Action":"fail","Package":"m/p"}
`
	)
	for name, c := range map[string]struct {
		in       string
		exit     int
		contains []string
	}{
		"a skip is listed with its reason, the package last": {start + skip + ok, 0,
			[]string{"1 tests were skipped", "--- SKIP: TestS\n    x_test.go:3: no such kernel", "\nok  \tm/p\t0.1s\n"}},
		"a failure is shown and fails": {start + bad, 1, []string{"some agent's log\n", "FAIL\tm/p\t0.1s\n"}},
		"what it said is repeated at the end, without the log": {start + bad, 1,
			[]string{"\n1 tests failed:\n--- FAIL: TestB\n    x_test.go:9: broken\nFAIL\n"}},
		"a build that fails, fails":          {`{"Action":"build-fail","ImportPath":"m/p"}` + "\n" + ok, 1, []string{"FAIL\n"}},
		"nothing run fails":                  {"", 1, []string{"FAIL\n"}},
		"text that is not JSON is passed on": {"go: no such module\n" + ok, 0, []string{"go: no such module\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if got := summarize(strings.NewReader(c.in), &out, nil); got != c.exit {
				t.Errorf("exit code %d, want %d", got, c.exit)
			}
			for _, want := range c.contains {
				if !strings.Contains(out.String(), want) {
					t.Errorf("output lacks %q:\n%s", want, out.String())
				}
			}
		})
	}
}

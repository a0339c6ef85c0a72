package harness

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// complaints is a test that only writes down what it is failed with.
type complaints struct {
	T
	said []string
}

func (*complaints) Helper() {}
func (c *complaints) Errorf(format string, args ...any) {
	c.said = append(c.said, fmt.Sprintf(format, args...))
}

func TestADecisionThatComesOutDifferentlyFailsTheTest(t *testing.T) {
	const (
		equal   = `{"seq":1,"function":"decide","pod":"web","input":{"phase":1},"output":"syncing, is looked at again"}` + "\n"
		mutated = `{"seq":2,"function":"decide","pod":"web","input":{"phase":2},"output":"syncing, is looked at again"}` + "\n"
		unknown = `{"seq":3,"function":"later","input":{},"output":""}` + "\n"
		planned = `{"seq":9,"kind":"plan"}` + "\n"
	)
	for _, tc := range []struct {
		what, decisions, journal, want string
		count                          int
	}{
		{"equal", equal + equal, planned, "", 2},
		{"none, and none was made", "", "", "", 0},
		{"none, and one was made", "", planned, "remembers no decision", 0},
		{"mutated", equal + mutated, planned, `#2 00:00:00 decide web: recorded "syncing, is looked at again", now "`, 2},
		{"unknown", equal + unknown, planned, "1 decisions of agent n1 cannot be made again", 1},
		{"garbage", "garbage\n", "", "make the decisions of agent n1 again", 0},
	} {
		c := &complaints{}
		count := (&Agent{t: c, Node: "n1"}).replay([]byte(tc.decisions), []byte(tc.journal))
		if said := strings.Join(c.said, "\n"); count != tc.count || (said == "") != (tc.want == "") || !strings.Contains(said, tc.want) {
			t.Errorf("%s: %d, %q", tc.what, count, said)
		}
	}
}

func TestASuiteWithoutDecisionsFails(t *testing.T) {
	var none, most tally
	for range 20 {
		none.add(0, true)
		none.add(0, false)
		most.add(7, true)
	}
	most.add(0, false)
	var out bytes.Buffer
	if err := none.close(&out); err == nil {
		t.Error("an agent that remembers nothing is not noticed")
	}
	out.Reset()
	if err := most.close(&out); err != nil || !strings.Contains(out.String(), "20 agents left 140 decisions") || !strings.Contains(out.String(), "1 were killed") {
		t.Errorf("%q, %v", out.String(), err)
	}
	out.Reset()
	if err := new(tally).close(&out); err != nil || out.Len() > 0 {
		t.Errorf("%q, %v", out.String(), err)
	}
}

package ui

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
)

func TestOnlyThePageOpensGates(t *testing.T) {
	const asJSON = "application/json"
	a := &agent{gates: &gate.State{Mode: gate.Paused, Waiting: []gate.Step{{Place: gate.CRI, Pod: "u", What: "StartContainer"}}}}
	base, token := serve(t, a, 0)
	own := strings.TrimSuffix(base, "/")
	port := own[strings.LastIndex(own, ":"):]
	for _, tc := range []struct {
		name, kind, body string
		header           http.Header
		code             int
		does             []server.TeachRequest
	}{
		{"a step", asJSON, `{"do":"step"}`, bearer(token, "Origin", own), 200, []server.TeachRequest{{Do: "step"}}},
		{"with a charset", asJSON + "; charset=utf-8", ` {"do":"run"} `, bearer(token, "Origin", own), 200, []server.TeachRequest{{Do: "run"}}},
		{"of a pod", asJSON, `{"do":"next","pod":"u"}`, bearer(token, "Origin", own), 200, []server.TeachRequest{{Do: "next", Pod: "u"}}},
		{"slowly, under another name of this machine", asJSON, `{"do":"slow","factor":10}`, bearer(token, "Host", "localhost"+port, "Origin", "http://localhost"+port), 200,
			[]server.TeachRequest{{Do: "slow", Factor: 10}}},

		{"no token", asJSON, `{"do":"run"}`, http.Header{"Origin": {own}}, 401, nil},
		{"another token", asJSON, `{"do":"run"}`, bearer(token[1:]+"A", "Origin", own), 401, nil},
		{"no origin", asJSON, `{"do":"run"}`, bearer(token), 403, nil},
		{"an empty one", asJSON, `{"do":"run"}`, bearer(token, "Origin", ""), 403, nil},
		{"the origin of a file or sandbox", asJSON, `{"do":"run"}`, bearer(token, "Origin", "null"), 403, nil},
		{"another origin", asJSON, `{"do":"run"}`, bearer(token, "Origin", "http://evil.example"), 403, nil},
		{"our origin by another name than the host's", asJSON, `{"do":"run"}`, bearer(token, "Origin", "http://localhost"+port), 403, nil},
		{"two origins", asJSON, `{"do":"run"}`, http.Header{"Authorization": {"Bearer " + token}, "Origin": {own, own}}, 403, nil},
		{"a name that leads here", asJSON, `{"do":"run"}`, bearer(token, "Host", "evil.example"+port, "Origin", "http://evil.example"+port), 403, nil},
		{"what a form sends", "text/plain", `{"do":"run"}`, bearer(token, "Origin", own), 415, nil},
		{"of no type", "", `{"do":"run"}`, bearer(token, "Origin", own), 415, nil},
		{"too large", asJSON, `{"do":"` + strings.Repeat("x", maxTeachRequest) + `"}`, bearer(token, "Origin", own), 413, nil},
		{"too much after it", asJSON, `{"do":"run"}` + strings.Repeat(" ", maxTeachRequest), bearer(token, "Origin", own), 413, nil},
		{"nothing", asJSON, ``, bearer(token, "Origin", own), 400, nil},
		{"null", asJSON, `null`, bearer(token, "Origin", own), 400, nil},
		{"garbage", asJSON, `{]`, bearer(token, "Origin", own), 400, nil},
		{"two at once", asJSON, `{"do":"run"}{"do":"run"}`, bearer(token, "Origin", own), 400, nil},
		{"what nobody knows", asJSON, `{"do":"run","really":true}`, bearer(token, "Origin", own), 400, nil},
		{"a number for a word", asJSON, `{"do":1}`, bearer(token, "Origin", own), 400, nil},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", base+"teach", strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(req.Header, tc.header)
		if host := tc.header.Get("Host"); host != "" {
			req.Host = host
		}
		if tc.kind != "" {
			req.Header.Set("Content-Type", tc.kind)
		}
		a.done = nil
		resp, body := do(t, req)
		if resp.StatusCode != tc.code || !slices.Equal(a.done, tc.does) {
			t.Errorf("%s: %s, and the agent was asked to %v; want %d, %v", tc.name, resp.Status, a.done, tc.code, tc.does)
		}
		if got := body == `{"teaching":true,"mode":"paused","waiting":[{"place":"cri","uid":"u","what":"StartContainer"}]}`+"\n"; got != (tc.code == 200) {
			t.Errorf("%s: it says %s", tc.name, body)
		}
	}
}

func TestWhatWaitsIsShown(t *testing.T) {
	long := slices.Repeat([]gate.Step{{What: strings.Repeat("é", 5000)}}, maxWaiting+7)
	for name, tc := range map[string]struct {
		agent *agent
		want  string
	}{
		"not teaching":     {&agent{}, `{"teaching":false}`},
		"slow motion":      {&agent{gates: &gate.State{Mode: gate.Slowed, Factor: 10}}, `{"teaching":true,"mode":"slow","factor":10}`},
		"an agent is away": {&agent{away: errors.New("no \"agent\"")}, `{"teaching":false,"failed":"no \"agent\""}`},
		"much":             {&agent{gates: &gate.State{Mode: gate.Paused, Waiting: long}}, `"more":7}`},
	} {
		base, token := serve(t, tc.agent, 0)
		resp, body := do(t, request(t, "GET", base+"teach", bearer(token)))
		if resp.StatusCode != 200 || !strings.HasSuffix(body, tc.want+"\n") || len(body) > maxWaiting*(maxText+100) {
			t.Errorf("%s: %s, %d bytes: %.200s", name, resp.Status, len(body), body)
		}
		if resp, _ := do(t, request(t, "GET", base+"teach", nil)); resp.StatusCode != 401 {
			t.Errorf("%s, without a token: %s", name, resp.Status)
		}
	}
}

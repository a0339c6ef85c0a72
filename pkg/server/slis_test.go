package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestResultsOfHealthChecksAreCounted(t *testing.T) {
	bad := Check{Name: "runtime", Check: func(context.Context) error { return errors.New("the disk is made of cheese") }}
	_, readOnly := start(t, Config{Checks: []Check{bad}})
	do(t, http.MethodGet, readOnly+"/healthz")
	do(t, http.MethodGet, readOnly+"/healthz?exclude=runtime")
	_, body, _ := do(t, http.MethodGet, readOnly+"/metrics/slis")
	for _, want := range []string{
		`kubernetes_healthcheck{name="ping",type="healthz"} 1`, `kubernetes_healthcheck{name="runtime",type="healthz"} 0`,
		`kubernetes_healthchecks_total{name="ping",status="success",type="healthz"} 2`, `kubernetes_healthchecks_total{name="runtime",status="error",type="healthz"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	if code, _, _ := do(t, http.MethodDelete, readOnly+"/metrics/slis"); code != http.StatusOK {
		t.Errorf("DELETE: %d", code)
	}
	if _, body, _ := do(t, http.MethodGet, readOnly+"/metrics/slis"); strings.Contains(body, "healthcheck") {
		t.Errorf("after DELETE:\n%s", body)
	}
}

package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
)

// Check is one of the things that the agent's health depends on.
type Check struct {
	Name string
	// Check returns nil if all is well, otherwise what is wrong, in words. It should
	// look at known state rather than ask anyone, and respect ctx.
	Check func(ctx context.Context) error
}

// checkTimeout is how long a check may take before it counts as failed.
const checkTimeout = 5 * time.Second

// health answers /healthz in the form of the API server's: "ok", or one line per
// check if something failed or ?verbose was given; ?exclude=NAME leaves one out.
type health struct {
	checks []*runner
	slis   *slis
}

// runner runs at most one call of a check at a time: a check that hangs costs one
// goroutine, however often it is asked.
type runner struct {
	Check
	busy chan struct{}
}

func newHealth(checks []Check) (*health, error) {
	h := &health{slis: newSLIs()}
	seen := map[string]bool{}
	ping := Check{Name: "ping", Check: func(context.Context) error { return nil }}
	for _, c := range append([]Check{ping}, checks...) {
		if c.Name == "" || c.Check == nil || seen[c.Name] {
			return nil, fmt.Errorf("server: health check %q: needs a name of its own and a function", c.Name)
		}
		seen[c.Name] = true
		h.checks = append(h.checks, &runner{Check: c, busy: make(chan struct{}, 1)})
	}
	return h, nil
}

func (h *health) addTo(mux *http.ServeMux) {
	h.slis.addTo(mux)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		h.answer(w, r, h.checks, q.Has("verbose"), q["exclude"])
	})
	mux.HandleFunc("GET /healthz/{check}", func(w http.ResponseWriter, r *http.Request) {
		i := slices.IndexFunc(h.checks, func(c *runner) bool { return c.Name == r.PathValue("check") })
		if i < 0 {
			http.NotFound(w, r)
			return
		}
		h.answer(w, r, h.checks[i:i+1], r.URL.Query().Has("verbose"), nil)
	})
}

func (h *health) answer(w http.ResponseWriter, r *http.Request, checks []*runner, verbose bool, exclude []string) {
	results := runAll(r.Context(), checks, exclude)
	var text strings.Builder
	healthy := true
	for i, c := range checks {
		switch err := results[i]; {
		case slices.Contains(exclude, c.Name):
			fmt.Fprintf(&text, "[+]%s excluded: ok\n", c.Name)
		case err == nil:
			h.slis.note(c.Name, true)
			fmt.Fprintf(&text, "[+]%s ok\n", c.Name)
		default:
			healthy = false
			h.slis.note(c.Name, false)
			fmt.Fprintf(&text, "[-]%s failed: %v\n", c.Name, err)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	switch {
	case !healthy:
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "%shealthz check failed\n", text.String())
	case verbose:
		fmt.Fprintf(w, "%shealthz check passed\n", text.String())
	default:
		fmt.Fprint(w, "ok")
	}
}

// runAll runs the checks in parallel, so that the slowest determines the time.
func runAll(ctx context.Context, checks []*runner, exclude []string) []error {
	results := make([]error, len(checks))
	done := make(chan struct{}, len(checks))
	for i, c := range checks {
		go func() {
			if !slices.Contains(exclude, c.Name) {
				results[i] = c.run(ctx)
			}
			done <- struct{}{}
		}()
	}
	for range checks {
		<-done
	}
	return results
}

// run returns the check's answer, or says that there was none in time.
func (c *runner) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	select {
	case c.busy <- struct{}{}:
	case <-ctx.Done():
		cancel()
		return fmt.Errorf("an earlier check has not returned yet")
	}
	result := make(chan error, 1)
	go func() {
		defer cancel()
		result <- recovery.Call(func() error { return c.Check.Check(ctx) })
		<-c.busy
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-result: // it answered at the last moment
		return err
	default:
		return fmt.Errorf("no answer within %s", checkTimeout)
	}
}

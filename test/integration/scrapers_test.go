package integration

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestAThousandScrapersCostOneReading has a thousand clients, each on a connection of its own,
// ask for /metrics/cadvisor at once, again and again. All get an answer, of readings of which there is
// one a second; meanwhile the agent is healthy, starts a pod, and stays as small as it is.
func TestAThousandScrapersCostOneReading(t *testing.T) {
	a := start(t)
	a.Write("before.yaml", harness.Pod("before", "sleep 1000"))
	a.WaitRunning("before")
	idle := footprint(t, a)

	began := time.Now()
	storm := newStorm(1000, "http://"+a.ReadOnly()+"/metrics/cadvisor")
	ctx, calm := context.WithCancel(t.Context())
	defer calm()
	var clients sync.WaitGroup
	for range storm.clients {
		clients.Go(func() { storm.client(ctx) })
	}
	harness.Eventually(t, "every client has an answer", 2*harness.Patience, func() error {
		if n := storm.served(); n < storm.clients {
			return fmt.Errorf("%d have", n)
		}
		return nil
	}, a.Explain)
	busy := footprint(t, a)
	harness.Eventually(t, "it is healthy", harness.Patience, func() error { // who asks has a second for his request, which a thousand may hold up
		_, err := a.Get("/healthz")
		return err
	}, a.Explain)
	a.Write("meanwhile.yaml", harness.Pod("meanwhile", "sleep 1000"))
	a.WaitRunning("meanwhile")
	calm()
	clients.Wait()
	over := time.Since(began)

	if len(storm.wrong) > 0 {
		t.Errorf("clients got %v", storm.wrong)
	}
	// One a second, and the one that was under way at either end.
	if most := int(over/time.Second) + 2; len(storm.readings) > most {
		t.Errorf("%d readings in %v, want %d at most", len(storm.readings), over, most)
	}
	t.Logf("%d clients, %d answers of %d readings in %v; resident %d MiB, then %d", storm.clients, storm.answers, len(storm.readings), over, idle.resident>>20, busy.resident>>20)
	if busy.files > idle.files+1024+64 || busy.resident > idle.resident+256<<20 {
		t.Errorf("the agent has grown from %+v to %+v", idle, busy)
	}
	harness.Eventually(t, "the agent has closed what they left", harness.Patience, func() error {
		if now := footprint(t, a); now.files > idle.files+64 {
			return fmt.Errorf("it has %d files open, %d before", now.files, idle.files)
		}
		return nil
	}, a.Explain)
}

// storm counts what many clients get.
type storm struct {
	clients int
	url     string

	mu       sync.Mutex
	answers  int
	first    int             // clients that have an answer
	readings map[string]bool // by their hash
	wrong    map[string]int  // answers that are neither metrics nor a clear refusal
}

func newStorm(clients int, url string) *storm {
	return &storm{clients: clients, url: url, readings: map[string]bool{}, wrong: map[string]int{}}
}

func (s *storm) served() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

// client asks once a second on one connection, until the context ends.
func (s *storm) client(ctx context.Context) {
	tr := &http.Transport{MaxConnsPerHost: 1, DisableCompression: true, DialContext: (&net.Dialer{}).DialContext}
	defer tr.CloseIdleConnections()
	had := false
	for ctx.Err() == nil {
		reading, err := s.ask(ctx, tr)
		s.mu.Lock()
		switch {
		case err == nil:
			s.answers++
			s.readings[reading] = true
			if !had {
				had = true
				s.first++
			}
		case ctx.Err() == nil:
			s.wrong[err.Error()]++
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// ask returns a hash of the answer: two readings differ at least in when they were made.
func (s *storm) ask(ctx context.Context, tr *http.Transport) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", s.url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return "", errors.Join(err, errString(resp.Status))
	}
	return string(sum.Sum(nil)), nil
}

type footprintOf struct {
	files    int
	resident int // bytes
}

// footprint is what the agent has open, and how large it is.
func footprint(t *testing.T, a *harness.Agent) footprintOf {
	t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(a.PID()))
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(proc, "statm"))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return footprintOf{len(files), pages * os.Getpagesize()}
}

package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
)

// askTimeout is how long the server of a manifest URL may take, as in the kubelet.
const askTimeout = 10 * time.Second

// HTTPConfig is what an HTTPSource is made of.
type HTTPConfig struct {
	URL      string
	Header   http.Header // sent with each request to that host
	NodeName string
	Period   time.Duration // between requests; 0: 20 s
	Clock    clock.WithTicker
	Report   func(manifest.Problem) // is called once with each problem; nil: LogProblem
	Client   http.RoundTripper      // nil: http.DefaultTransport
	StateDir string                 // as FileConfig's, for the last good answer
	Objects  bool                   // as FileConfig's
	Lenient  bool                   // as FileConfig's
	Journal  *journal.Journal       // notes each answer that changes something; nil: nobody does
}

// HTTPSource reads pods from a URL every period, in the same forms as a manifest
// file. If anything is wrong with an answer, as a whole or in one document, the
// pods of the last good one stay; an empty list means no pods.
type HTTPSource struct {
	cfg    HTTPConfig
	client *http.Client
	origin manifest.Origin
	store  *lastGood

	spoken  bool
	asked   bool   // the first answer or failure has arrived
	last    []byte // body of the last answer that was decoded
	etag    string // of it
	content manifest.Content
	faults  []manifest.Problem // of the last decoded answer

	mu       sync.Mutex
	problems manifest.Book
	text     []byte           // the last answer, of which nothing is changed
	wanted   []manifest.Ident // what is wanted, if not of that answer then of one before
}

// NewHTTP checks the configuration. It sends no request.
func NewHTTP(cfg HTTPConfig) (*HTTPSource, error) {
	if cfg.URL == "" || cfg.NodeName == "" {
		return nil, errors.New("URL source: no URL or NodeName")
	}
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, errors.New("URL source: the URL cannot be parsed") // the error would quote its password
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("URL source: %s: want http://<host>/ or https://<host>/", u.Redacted())
	}
	if cfg.Period <= 0 {
		cfg.Period = defaultPeriod
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	from := *u
	from.User = nil // a new password must not make new pods
	s := &HTTPSource{
		cfg:      cfg,
		origin:   manifest.Origin{Source: pods.SourceHTTP, From: from.String(), Node: cfg.NodeName, Objects: cfg.Objects, Lenient: cfg.Lenient},
		store:    &lastGood{dir: cfg.StateDir},
		problems: manifest.NewBook(cfg.Report),
	}
	s.client = &http.Client{Transport: cfg.Client, Timeout: askTimeout, CheckRedirect: s.redirect}
	return s, nil
}

// redirect follows redirects, but does not send the headers to another host than they were meant
// for, or without TLS where they were meant for it; nor back, once a redirect has led elsewhere.
func (s *HTTPSource) redirect(r *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	elsewhere := func(r *http.Request) bool {
		return r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme && via[0].URL.Scheme == "https"
	}
	if elsewhere(r) || slices.ContainsFunc(via, elsewhere) {
		for name := range s.cfg.Header {
			r.Header.Del(name)
		}
		r.Header.Del("Referer") // the client's own: the URL, whose query may be a secret
	}
	return nil
}

// Problems returns what is wrong as of the last answer. Safe for concurrent use.
func (s *HTTPSource) Problems() []manifest.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problems.All
}

// Where returns the URL if a pod or object comes from it, without a password, and the line of one of the pod's fields or of
// what the answer has of the field's path: 0 if the last answer does not have the pod any more. Safe for concurrent use.
func (s *HTTPSource) Where(id manifest.Ident, field string) (from string, line int) {
	s.mu.Lock()
	text, wanted := s.text, slices.Contains(s.wanted, id)
	s.mu.Unlock()
	if !wanted {
		return "", 0
	}
	return s.origin.From, s.origin.Line(text, id, field)
}

// Run asks at once and every period, and sends a snapshot whenever the answer has
// changed, until ctx ends. Run it once.
func (s *HTTPSource) Run(ctx context.Context, out chan<- Snapshot) error {
	again := s.cfg.Clock.NewTicker(s.cfg.Period)
	defer again.Stop()
	for {
		snapshot := s.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if snapshot != nil {
			select {
			case out <- *snapshot:
			case <-ctx.Done():
				return nil
			}
			s.store.flush()
		}
		select {
		case <-again.C():
		case <-ctx.Done():
			return nil
		}
	}
}

// look asks once. It returns a snapshot if what is wanted may have changed.
func (s *HTTPSource) look(ctx context.Context) *Snapshot {
	body, etag, err := s.ask(ctx)
	if ctx.Err() != nil {
		return nil
	}
	first := !s.asked
	s.asked = true
	changed := false
	switch {
	case err != nil:
		s.note(append([]manifest.Problem{s.problem(message(err))}, s.faults...))
		if first {
			s.content, changed = s.store.content(s.origin, s.cfg.NodeName)
		}
	case body == nil || s.last != nil && bytes.Equal(body, s.last):
		s.note(s.faults)
	case len(bytes.TrimSpace(body)) == 0:
		// The kubelet takes this for no pods; more likely the server is in trouble.
		s.note(append([]manifest.Problem{s.problem("answered with nothing; an empty list is what stops all pods")}, s.faults...))
		if first {
			s.content, _ = s.store.content(s.origin, s.cfg.NodeName)
		}
		changed = !s.spoken
	default:
		s.take(body, first)
		s.last, s.etag = body, etag
		changed = true
	}
	if !changed {
		return nil
	}
	s.spoken = true
	s.mu.Lock()
	s.text, s.wanted = s.last, s.content.Idents()
	s.mu.Unlock()
	noted := s.cfg.Journal.Note(journal.Event{
		Kind: journal.Source, Name: pods.SourceHTTP, Reason: "read", Detail: found{len(s.content.Pods), len(s.content.Objects), len(s.problems.All)},
	})
	return &Snapshot{Source: pods.SourceHTTP, Pods: s.content.Pods, Objects: s.content.Objects, Cause: noted}
}

// take decodes an answer.
func (s *HTTPSource) take(body []byte, first bool) {
	docs := s.origin.Read(body)
	before := s.content
	if first && manifest.NeedsKept(docs) {
		before, _ = s.store.content(s.origin, s.cfg.NodeName)
	}
	manifest.RefuseChanges(docs, before)
	s.faults = manifest.Problems(docs, pods.SourceHTTP, s.origin.From)
	whole := len(docs) > 0 && !slices.ContainsFunc(docs, manifest.Document.Failed)
	if len(docs) == 0 {
		s.faults = append(s.faults, s.problem("holds no document; an empty list is what stops all pods"))
	}
	s.content = manifest.Content{}
	for _, clash := range manifest.NewTaken().AddAll(&s.content, manifest.KeepFailed(before, docs, s.cfg.NodeName), "an earlier document") {
		clash.Source, clash.File = pods.SourceHTTP, s.origin.From
		s.faults = append(s.faults, clash)
	}
	s.store.keep(s.origin.From, s.content, whole)
	s.note(s.faults)
	klog.V(2).InfoS("Manifests read", "url", s.origin.From, "pods", len(s.content.Pods), "objects", len(s.content.Objects), "problems", len(s.faults))
}

// ask gets the answer: nil if the server says that it has not changed.
func (s *HTTPSource) ask(ctx context.Context) (body []byte, etag string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.URL, nil)
	if err != nil {
		return nil, "", err
	}
	for name, values := range s.cfg.Header {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	if s.etag != "" {
		r.Header.Set("If-None-Match", s.etag)
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode == http.StatusNotModified && s.etag != "":
		return nil, "", nil
	case answer.StatusCode != http.StatusOK:
		return nil, "", fmt.Errorf("answered %s", answer.Status)
	}
	body, err = io.ReadAll(io.LimitReader(answer.Body, maxManifest+1))
	if err != nil {
		return nil, "", err
	}
	if len(body) > maxManifest {
		return nil, "", fmt.Errorf("answered with more than %d MiB", maxManifest>>20)
	}
	return body, answer.Header.Get("ETag"), nil
}

func (s *HTTPSource) problem(message string) manifest.Problem {
	return manifest.Problem{Source: pods.SourceHTTP, File: s.origin.From, Message: message}
}

func (s *HTTPSource) note(problems []manifest.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems.Set(problems)
}

// message words an error the same way each time, so that it is reported once:
// without the local port of the connection.
func message(err error) string {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	if e := (*net.OpError)(nil); errors.As(err, &e) {
		return fmt.Sprintf("%s %v: %v", e.Op, e.Addr, e.Err)
	}
	return err.Error()
}

package server

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
)

func oneMetric(value float64) []*dto.MetricFamily {
	return []*dto.MetricFamily{{Name: proto.String("cheese"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: &value}}}}}
}

func TestAThousandScrapersCostOneReading(t *testing.T) {
	var readings atomic.Int32
	all := make(chan struct{})
	g := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		<-all
		return oneMetric(float64(readings.Add(1))), nil
	})
	_, readOnly := start(t, Config{CAdvisor: g})
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 100}}
	t.Cleanup(client.CloseIdleConnections)
	began := time.Now() // before the first reading, from whose begin its page is as old
	var scrapers sync.WaitGroup
	for range 1000 {
		scrapers.Go(func() {
			resp, err := client.Get(readOnly + "/metrics/cadvisor")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || len(text) == 0 {
				t.Errorf("%d %q, %v", resp.StatusCode, text, err)
			}
		})
	}
	close(all)
	scrapers.Wait()
	if got, most := readings.Load(), int32(time.Since(began)/pageAge)+1; got > most {
		t.Errorf("%d readings, want at most one a second: %d", got, most)
	}
}

func TestAPageIsTextAndMayBePacked(t *testing.T) {
	_, readOnly := start(t, Config{Resource: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return oneMetric(1), nil })})
	const want = "# TYPE cheese gauge\ncheese 1\n"
	for _, accepted := range []string{"identity", "gzip;q=0", "br, gzip;q=0.5"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, readOnly+"/metrics/resource", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", accepted)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = resp.Body
		if resp.Header.Get("Content-Encoding") == "gzip" {
			if body, err = gzip.NewReader(body); err != nil {
				t.Fatal(err)
			}
		} else if accepted == "br, gzip;q=0.5" {
			t.Error("not packed")
		}
		if text, err := io.ReadAll(body); err != nil || string(text) != want || resp.Header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
			t.Errorf("%s: %q as %s, %v", accepted, text, resp.Header, err)
		}
		resp.Body.Close()
	}
}

func TestAPageThatCannotBeRead(t *testing.T) {
	_, readOnly := start(t, Config{Resource: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return nil, errors.New("the disk is made of cheese") })})
	if code, body, _ := do(t, http.MethodGet, readOnly+"/metrics/resource"); code != http.StatusInternalServerError {
		t.Errorf("%d %s", code, body)
	}
}

// stuck is a client that reads nothing.
type stuck struct {
	http.ResponseWriter
	writing chan<- struct{}
	gone    <-chan struct{}
}

func (s stuck) Write([]byte) (int, error) {
	s.writing <- struct{}{}
	<-s.gone
	return 0, errors.New("gone")
}

func TestNobodyWaitsForClientsThatReadNothing(t *testing.T) {
	page := newMetricsPage("/metrics", prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return oneMetric(1), nil }), 0)
	writing, gone := make(chan struct{}), make(chan struct{})
	var slow sync.WaitGroup
	for range 20 {
		slow.Go(func() {
			page.ServeHTTP(stuck{httptest.NewRecorder(), writing, gone}, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		})
		<-writing
	}
	w := httptest.NewRecorder()
	page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK || w.Body.Len() == 0 {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	close(gone)
	slow.Wait()
}

func TestWhoAsksForTheBinaryFormGetsIt(t *testing.T) {
	page := newMetricsPage("/metrics", prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return oneMetric(7), nil }), 0)
	for accept, binary := range map[string]bool{
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;q=0.3": true,
		"application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5":                                         false,
		"text/html": false, "": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("Accept", accept)
		r.Header.Set("Accept-Encoding", "gzip")
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		format := expfmt.ResponseFormat(w.Header())
		if (format.FormatType() == expfmt.TypeProtoDelim) != binary {
			t.Errorf("%q: answered as %s", accept, w.Header())
			continue
		}
		var body io.Reader = w.Body
		if w.Header().Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
		}
		var f dto.MetricFamily
		if err := expfmt.NewDecoder(body, format).Decode(&f); err != nil || f.GetName() != "cheese" || f.Metric[0].Gauge.GetValue() != 7 {
			t.Errorf("%q: %v, %v", accept, &f, err)
		}
	}
}

func TestAPageHasABinaryFormOnceSomebodyAsksForIt(t *testing.T) {
	g := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return oneMetric(7), nil })
	page := newMetricsPage("/metrics/cadvisor", g, time.Hour)
	ask := func(accept string) expfmt.FormatType {
		r := httptest.NewRequest(http.MethodGet, "/metrics/cadvisor", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		return expfmt.ResponseFormat(w.Header()).FormatType()
	}
	const inBinary = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
	if got := ask("text/plain"); got != expfmt.TypeTextPlain {
		t.Errorf("who asks for text gets %v", got)
	}
	if text, err := page.work.Get(t.Context()); err != nil || text.binary != nil {
		t.Errorf("the binary form is made for nobody: %v", err)
	}
	if got := ask(inBinary); got != expfmt.TypeTextPlain {
		t.Errorf("the page that was made for text is answered as %v", got)
	}
	page.work.MaxAge = 0 // the next page
	if got := ask(inBinary); got != expfmt.TypeProtoDelim {
		t.Errorf("the next page is answered as %v", got)
	}
}

package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/shared"
)

// How old a page of metrics may be that costs much to read, from when its reading began, and
// how long a reading may take.
const (
	pageAge     = time.Second
	pageTimeout = 20 * time.Second
)

// metricsPage serves metrics: however many ask, on whichever port, there is one reading at a time, and its text is made
// and compressed once. One page is kept, and those that slow clients have yet to read: nobody waits for these.
type metricsPage struct {
	work   shared.Work[*pageText]
	binary atomic.Bool // somebody has asked for Prometheus' binary form, and will again
}

// pages are those that cost much to read, and that all ports share, by path.
type pages map[string]*metricsPage

func newPages(cfg Config) pages {
	all := pages{}
	for path, g := range map[string]prometheus.Gatherer{"/metrics/cadvisor": cfg.CAdvisor, "/metrics/resource": cfg.Resource} {
		if g == nil {
			g = prometheus.NewRegistry()
		}
		all[path] = newMetricsPage(path, g, pageAge)
	}
	return all
}

func (p pages) addTo(mux *http.ServeMux) {
	for path, page := range p {
		mux.Handle("GET "+path, page)
	}
}

// pageText is a page as text, as that compressed, and in Prometheus' binary form, nil unless that is asked for. It does not
// keep what it was made from, which is many times as large.
type pageText struct{ plain, packed, binary []byte }

// newMetricsPage returns a page whose metrics are at most of that age; 0: who asks while they are read gets these.
func newMetricsPage(name string, g prometheus.Gatherer, age time.Duration) *metricsPage {
	var failing logonce.Error // one reading at a time uses it
	p := &metricsPage{}
	p.work.MaxAge, p.work.Timeout = age, pageTimeout
	p.work.Do = func(context.Context) (*pageText, error) {
		text, left, err := writePage(name, g, p.binary.Load())
		if failing.Note(left) {
			klog.ErrorS(left, "Some metrics are left out", "path", name)
		}
		return text, err
	}
	return p
}

// writePage leaves out what cannot be read or written, unless that is everything, and says why.
func writePage(name string, g prometheus.Gatherer, binary bool) (text *pageText, left, err error) {
	families, left := g.Gather()
	if left != nil && len(families) == 0 {
		return nil, nil, fmt.Errorf("read the metrics of %s: %w", name, left)
	}
	var plain, packed bytes.Buffer
	for _, f := range families {
		if _, wrong := expfmt.MetricFamilyToText(&plain, f); wrong != nil {
			left = wrong
		}
	}
	z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, left, fmt.Errorf("compress the metrics of %s: %w", name, err)
	}
	_, _ = z.Write(plain.Bytes()) // a buffer takes everything
	_ = z.Close()
	text = &pageText{plain: plain.Bytes(), packed: packed.Bytes()}
	if binary {
		text.binary = inBinary(families)
	}
	return text, left, nil
}

// binaryFormat is what scrapers ask for that want native histograms.
var binaryFormat = expfmt.NewFormat(expfmt.TypeProtoDelim)

func inBinary(families []*dto.MetricFamily) []byte {
	var out bytes.Buffer
	e := expfmt.NewEncoder(&out, binaryFormat)
	for _, f := range families {
		_ = e.Encode(f) // a buffer takes everything
	}
	return out.Bytes()
}

func (p *metricsPage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	binary := expfmt.Negotiate(r.Header).FormatType() == expfmt.TypeProtoDelim
	if binary {
		p.binary.Store(true)
	}
	text, err := p.work.Get(r.Context())
	if err != nil {
		fail(w, r, err, http.StatusInternalServerError)
		return
	}
	body, format := text.plain, expfmt.NewFormat(expfmt.TypeTextPlain)
	if binary = binary && text.binary != nil; binary { // else the page was made before anybody asked
		body, format = text.binary, binaryFormat
	}
	w.Header().Set("Content-Type", string(format))
	w.Header().Set("Vary", "Accept, Accept-Encoding")
	if !binary && acceptsGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		body = text.packed
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // it fails if the client has gone
	}
}

func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == "gzip" {
			return strings.ReplaceAll(weight, " ", "") != "q=0"
		}
	}
	return false
}

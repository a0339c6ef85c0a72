package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/shared"
)

// How old a page of metrics may be that costs much to read, from when its reading began, and
// how long a reading may take.
const (
	pageAge     = time.Second
	pageTimeout = 20 * time.Second
)

// metricsPage serves metrics that cost much to read: however many ask, on whichever port,
// there is one reading at a time, and its text is made and compressed once. One page is kept,
// and those that slow clients have yet to read.
type metricsPage struct {
	work shared.Work[*pageText]
}

// pages are served by path.
type pages map[string]*metricsPage

func newPages(cfg Config) pages {
	all := pages{}
	for path, g := range map[string]prometheus.Gatherer{"/metrics/cadvisor": cfg.CAdvisor, "/metrics/resource": cfg.Resource} {
		if g == nil {
			g = prometheus.NewRegistry()
		}
		all[path] = newMetricsPage(path, g)
	}
	return all
}

func (p pages) addTo(mux *http.ServeMux) {
	for path, page := range p {
		mux.Handle("GET "+path, page)
	}
}

type pageText struct{ plain, packed []byte }

func newMetricsPage(name string, g prometheus.Gatherer) *metricsPage {
	return &metricsPage{shared.Work[*pageText]{MaxAge: pageAge, Timeout: pageTimeout, Do: func(context.Context) (*pageText, error) {
		return writePage(name, g)
	}}}
}

// writePage leaves out what cannot be read or written, unless that is everything.
func writePage(name string, g prometheus.Gatherer) (*pageText, error) {
	families, err := g.Gather()
	if err != nil && len(families) == 0 {
		return nil, fmt.Errorf("read the metrics of %s: %w", name, err)
	}
	var plain, packed bytes.Buffer
	for _, f := range families {
		if _, wrong := expfmt.MetricFamilyToText(&plain, f); wrong != nil {
			err = wrong
		}
	}
	if err != nil {
		klog.ErrorS(err, "Some metrics are left out", "path", name)
	}
	z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("compress the metrics of %s: %w", name, err)
	}
	_, _ = z.Write(plain.Bytes()) // a buffer takes everything
	_ = z.Close()
	return &pageText{plain.Bytes(), packed.Bytes()}, nil
}

func (p *metricsPage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := p.work.Get(r.Context())
	if err != nil {
		fail(w, r, err, http.StatusInternalServerError)
		return
	}
	body := text.plain
	w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	w.Header().Set("Vary", "Accept-Encoding")
	if acceptsGzip(r) {
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

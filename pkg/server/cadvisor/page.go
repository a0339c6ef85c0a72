package cadvisor

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// page collects series by family.
type page struct {
	byName map[string]*dto.MetricFamily
}

func newPage() *page { return &page{byName: map[string]*dto.MetricFamily{}} }

// families returns what was collected, in the order of the names.
func (p *page) families() []*dto.MetricFamily {
	var all []*dto.MetricFamily
	for _, f := range p.byName {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all
}

// add adds everything about a subject.
func (p *page) add(who labels, u *usage) {
	base := who.pairs()
	for i := range families {
		f := &families[i]
		var at time.Time
		if !f.timeless {
			at = u.At
		}
		f.of(u, func(value float64, extra ...string) {
			p.put(f.name, f.help, f.kind, value, at, withExtra(base, f.extra, extra))
		})
	}
}

// put adds one series. Who reads takes it to be of that moment, if there is one.
func (p *page) put(name, help string, kind dto.MetricType, value float64, at time.Time, pairs []*dto.LabelPair) {
	f := p.byName[name]
	if f == nil {
		f = &dto.MetricFamily{Name: &name, Help: &help, Type: &kind}
		p.byName[name] = f
	}
	m := &dto.Metric{Label: pairs}
	if f.GetType() == counter {
		m.Counter = &dto.Counter{Value: &value}
	} else {
		m.Gauge = &dto.Gauge{Value: &value}
	}
	if !at.IsZero() {
		m.TimestampMs = proto.Int64(at.UnixMilli())
	}
	f.Metric = append(f.Metric, m)
}

// pairs are shared by all series of a subject, and must not be changed.
func (l labels) pairs() []*dto.LabelPair {
	return []*dto.LabelPair{
		pair("container", l.container), pair("id", l.id), pair("image", l.image),
		pair("name", l.name), pair("namespace", l.namespace), pair("pod", l.pod),
	}
}

func withExtra(base []*dto.LabelPair, names, values []string) []*dto.LabelPair {
	if len(names) == 0 {
		return base
	}
	all := slices.Clone(base)
	for i, name := range names {
		value := ""
		if i < len(values) {
			value = values[i]
		}
		all = append(all, pair(name, value))
	}
	slices.SortFunc(all, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all
}

// maxLabel is how much of a label is told, in bytes: names of images come from pods' specs.
const maxLabel = 1024

func pair(name, value string) *dto.LabelPair {
	if len(value) > maxLabel {
		value = value[:maxLabel]
	}
	if !utf8.ValidString(value) {
		value = strings.ToValidUTF8(value, "\uFFFD")
	}
	return &dto.LabelPair{Name: &name, Value: &value}
}

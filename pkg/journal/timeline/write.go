package timeline

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
)

// The columns of a time line.
const (
	layerColumn = 16
	textColumn  = 72
)

// Write writes the time line as text: a header, the lines, and where the time went.
func (t Timeline) Write(out io.Writer) error {
	if _, err := fmt.Fprintln(out, t.Header()); err != nil {
		return err
	}
	for _, l := range t.Lines {
		if _, err := fmt.Fprintln(out, l); err != nil {
			return err
		}
	}
	if summary := t.Summary(); summary != "" {
		_, err := fmt.Fprintln(out, summary)
		return err
	}
	return nil
}

// Header says of what pod the time line is, and how long it took to run.
func (t Timeline) Header() string {
	from := "from " + t.Beginning
	if t.Forgotten {
		from = "from the first thing remembered"
	}
	total := duration(t.Total) + " " + from
	switch {
	case t.Beginning == "":
		total = "nothing is remembered of it"
	case t.Running:
		total += " to Running"
	case t.Runs:
		total += " until now; since when it is Running is forgotten"
	case t.Gone:
		total += " to its end; it was not seen to be Running"
	default:
		total += " until now, not Running yet"
	}
	return fmt.Sprintf("%s (%s) %s  %s", cut(t.Pod), cut(t.Namespace), cut(t.UID), total)
}

// String is the line as text, without a line break.
func (l Line) String() string {
	took := ""
	if l.Took >= leastTook {
		took = duration(l.Took)
		if l.UnderWay {
			took = "so far " + took
		}
	}
	if l.Wait {
		return offset(l.At) + "  " + pad("┄ "+l.Layer, layerColumn) + " " + pad(l.Text, textColumn) + "  " + took
	}
	text := l.Text
	if l.Failed {
		text = "✗ " + text
	}
	layer := strings.Repeat("│ ", l.Depth) + l.Layer
	if l.Beside {
		layer = "┆ " + layer
	}
	line := offset(l.At) + "  " + pad(layer, layerColumn) + " " + pad(text, textColumn) + "  " + took
	return strings.TrimRight(line, " ")
}

// leastTook is what is written as 0.1 ms.
const leastTook = 50 * time.Microsecond

// pad fills a text up to a width.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// offset writes how long after the beginning something was, in milliseconds up to a minute.
func offset(d time.Duration) string {
	switch {
	case d > -time.Minute && d < time.Minute:
		return fmt.Sprintf("%9.1f", float64(d)/float64(time.Millisecond))
	case d > 0 && d < time.Hour:
		return fmt.Sprintf("%9s", d.Round(100*time.Millisecond).String())
	}
	return fmt.Sprintf("%9s", d.Round(time.Second).String())
}

// mostParts is how many parts a summary names, and leastShare of what share of the whole the smallest has to be.
const (
	mostParts  = 4
	leastShare = 0.05
)

// Summary says in one line where the time went.
func (t Timeline) Summary() string {
	if t.Total <= 0 {
		return ""
	}
	var most, waited []string
	sums := map[PartKind]time.Duration{}
	for _, p := range t.Parts {
		sums[p.Kind] += p.Took
		share := float64(p.Took) / float64(t.Total)
		switch {
		case share < leastShare:
		case p.Kind == Wait && len(waited) < mostParts:
			waited = append(waited, fmt.Sprintf("%s %s", percent(share), p.Name))
		case (p.Kind == Leaf || p.Kind == Own) && len(most) < mostParts:
			most = append(most, fmt.Sprintf("%s %s", percent(share), p.Name))
		}
	}
	share := func(kinds ...PartKind) string {
		var sum time.Duration
		for _, k := range kinds {
			sum += sums[k]
		}
		return percent(float64(sum) / float64(t.Total))
	}
	text := strings.Join(most, ", ")
	if t.Running && text != "" {
		text = "until it ran: " + text
	}
	text = join("; ", text, share(Wait)+" waiting")
	if len(waited) > 0 {
		text += ": " + strings.Join(waited, ", ")
	}
	if sums[Unaccounted] > 0 {
		text += "; " + share(Unaccounted) + " unaccounted for"
	}
	return strings.Repeat(" ", len("         ")) + "  ▁▁▁ " + visible.Text(text)
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

package manifest

import (
	"fmt"
	"strings"

	"k8s.io/klog/v2"
)

// Problem is something wrong with a manifest, in the words of the API server and in
// terms of what the user wrote. Unknown fields are zero.
type Problem struct {
	Source   string // File or HTTP
	File     string // path or URL
	Document int    // in the file, counted from 1
	Line     int    // in the file, counted from 1
	Field    string // path, e.g. "spec.containers[0].image"
	Message  string
}

// Error returns "<file>: document <n> (line <l>): <field>: <message>".
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	b.WriteString(": ")
	if p.Document > 0 {
		fmt.Fprintf(&b, "document %d", p.Document)
		if p.Line > 0 {
			fmt.Fprintf(&b, " (line %d)", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Field != "" {
		b.WriteString(p.Field)
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// LogProblem writes the problem to the log. A source without a Report function uses
// it.
func LogProblem(p Problem) {
	klog.ErrorS(p, "Manifest problem", "source", p.Source, "file", p.File)
}

// Book holds the problems of a source as of its last look, and reports each
// of them once, until it is gone and comes back.
type Book struct {
	report func(Problem)
	known  map[Problem]bool
	All    []Problem // as last set; they must not be changed
}

// NewBook returns a Book without problems. report is called once with each new one; nil: LogProblem.
func NewBook(report func(Problem)) Book {
	if report == nil {
		report = LogProblem
	}
	return Book{report: report, known: map[Problem]bool{}}
}

// Set replaces the problems and reports the new ones.
func (b *Book) Set(problems []Problem) {
	known := make(map[Problem]bool, len(problems))
	for _, p := range problems {
		if !b.known[p] && !known[p] {
			b.report(p)
		}
		known[p] = true
	}
	b.known, b.All = known, problems
}

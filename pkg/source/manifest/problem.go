package manifest

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
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
	Warning  bool // the document counts all the same
	// Kind and Name are the document's, as it was written.
	Kind string
	Name types.NamespacedName
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
	if p.Warning {
		klog.InfoS("Manifest warning", "warning", p.Error(), "source", p.Source, "file", p.File)
		return
	}
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

// What is said about a manifest, whatever is wrong with it: the author of a manifest may be
// anybody, and an editor may save half a file.
const (
	maxProblems        = 100  // of a document
	maxManifestProblem = 1000 // of a manifest
	maxListed          = 10   // fields that the one warning about a manifest names
	maxField           = 300  // bytes of a path
	maxMessage         = 1200 // bytes, enough for the API server's longest with a name in it
)

// manifest is what its documents share.
type manifest struct {
	lenient   bool
	documents []Document
	told      int // problems kept of all documents
}

// text is one document of the manifest as written. A list is one, its items share it.
type text struct {
	manifest    *manifest
	document    int // counted from 1
	lines       *lines
	told        int       // problems kept
	more        int       // those beyond the bounds
	ignored     []Problem // what it has and the API has not; dropped
	moreIgnored int
}

func (w *Document) fail(path, message string) []Document {
	w.problem(path, message)
	return []Document{*w}
}

// refuse records what is wrong with what was decoded, and if anything is, drops the
// result.
func (w *Document) refuse(errs field.ErrorList) {
	for _, e := range errs {
		if w.room() {
			w.problem(e.Field, e.ErrorBody())
		}
	}
	if len(errs) > 0 {
		w.pod, w.object = nil, nil
	}
}

// room reports whether there is room for another problem. If not, it is only counted.
func (w *Document) room() bool {
	if w.told < maxProblems && w.manifest.told < maxManifestProblem {
		return true
	}
	w.countMore(1)
	return false
}

func (w *Document) countMore(n int) {
	w.faults += n
	w.more += n
}

// problem records what is wrong with a field, and on which line the field is.
func (w *Document) problem(path, message string) {
	if w.room() {
		path = w.path(path)
		w.tell(Problem{Document: w.document, Line: w.lines.of(path), Field: path, Message: message})
	}
}

// problemAt records what is wrong in a line of the document, counted from 1.
func (w *Document) problemAt(line int, message string) {
	if w.room() {
		w.tell(Problem{Document: w.document, Line: w.lines.text.line + line - 1, Message: message})
	}
}

func (w *Document) tell(p Problem) {
	w.faults++
	w.told++
	w.manifest.told++
	p.Kind, p.Name = w.kind, w.name
	w.problems = append(w.problems, p.bounded())
}

// ignore records that a field is dropped, and on which line it is.
func (w *Document) ignore(path, message string) {
	if len(w.ignored) == maxListed {
		w.moreIgnored++
		return
	}
	path = w.path(path)
	w.ignored = append(w.ignored, Problem{Document: w.document, Line: w.lines.of(path), Field: path, Message: message}.bounded())
}

func (w *Document) ignoreAt(line int, message string) {
	if len(w.ignored) == maxListed {
		w.moreIgnored++
		return
	}
	w.ignored = append(w.ignored, Problem{Document: w.document, Line: w.lines.text.line + line - 1, Message: message}.bounded())
}

func (w *Document) path(path string) string { return strings.TrimSuffix(w.prefix+path, ".") }

func (p Problem) bounded() Problem {
	p.Field, p.Message = bounds.Cut(p.Field, maxField), bounds.Cut(p.Message, maxMessage)
	p.Kind, p.Name.Namespace, p.Name.Name = bounds.Cut(p.Kind, maxField), bounds.Cut(p.Name.Namespace, maxField), bounds.Cut(p.Name.Name, maxField)
	return p
}

// Problems returns what is wrong with a manifest: at most a hundred problems of each document, a
// thousand in all, and how many there are beside these; then one warning that names what
// was dropped, and one about pods with a priority of their own.
func Problems(docs []Document, source, file string) []Problem {
	var all, ignored []Problem
	add := func(p Problem) {
		p.Source, p.File = source, file
		all = append(all, p)
	}
	more, documents, moreIgnored := 0, 0, 0
	for i := range docs {
		for _, p := range docs[i].problems {
			add(p)
		}
		t := docs[i].text
		if i+1 < len(docs) && docs[i+1].text == t {
			continue // the last item of a list tells of the whole
		}
		listed := t.ignored[:min(len(t.ignored), maxListed-len(ignored))]
		ignored = append(ignored, listed...)
		moreIgnored += t.moreIgnored + len(t.ignored) - len(listed)
		switch {
		case t.more > 0 && t.told > 0:
			add(Problem{Document: t.document, Message: fmt.Sprintf("and %d more problems", t.more)})
		case t.more > 0:
			more += t.more
			documents++
		}
	}
	if more > 0 {
		add(Problem{Message: fmt.Sprintf("and %d problems in %d more documents", more, documents)})
	}
	if len(ignored) > 0 {
		add(dropped(ignored, moreIgnored))
	}
	if p, found := unclassed(docs); found {
		add(p)
	}
	return all
}

// unclassed is the one warning of a manifest about priorities without a class, in the kubelet's words.
func unclassed(docs []Document) (p Problem, found bool) {
	more := 0
	for i := range docs {
		w := &docs[i]
		switch {
		case w.pod == nil || !w.unclassed:
		case found:
			more++
		default:
			path := w.path("spec.priority")
			p, found = Problem{Document: w.document, Line: w.lines.of(path), Field: path, Warning: true,
				Message: "Static pod has priority without priorityClassName. Mirror pod creation may fail if the default priority class doesn't match the given priority."}.bounded(), true
		}
	}
	if more > 0 {
		p.Message += fmt.Sprintf(" So it is with %d more.", more)
	}
	return p, found
}

// dropped is the one warning of a manifest about what is dropped of it.
func dropped(ignored []Problem, more int) Problem {
	first := ignored[0]
	var b strings.Builder
	fmt.Fprintf(&b, "%s, dropped, as the kubelet does", first.Message)
	for i, p := range ignored[1:] {
		b.WriteString([]string{"; so is ", ", "}[min(i, 1)])
		if p.Field != "" {
			fmt.Fprintf(&b, "%s (line %d)", p.Field, p.Line)
		} else {
			fmt.Fprintf(&b, "line %d: %s", p.Line, p.Message)
		}
	}
	if more > 0 {
		fmt.Fprintf(&b, ", and %d more", more)
	}
	return Problem{Document: first.Document, Line: first.Line, Field: first.Field, Message: bounds.Cut(b.String(), 2*maxMessage), Warning: true}
}

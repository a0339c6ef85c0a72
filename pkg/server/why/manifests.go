package why

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// subject is what a problem is about: a pod or an object, or a document that has no name, or the file.
type subject struct {
	kind, file string
	name       types.NamespacedName
	document   int // 0 where it has a name
}

// refusals are the problems of manifests, by what they are about.
type refusals struct {
	order []subject
	by    map[subject][]Problem
}

// refused groups the problems. A document without a name goes by its file.
func (in *Inputs) refused() *refusals {
	r := &refusals{by: map[subject][]Problem{}}
	for _, p := range in.Problems {
		s := subject{file: p.File, document: p.Document}
		if p.Name.Name != "" {
			s = subject{kind: p.Kind, file: p.File, name: p.Name}
		}
		if r.by[s] == nil {
			r.order = append(r.order, s)
		}
		r.by[s] = append(r.by[s], p)
	}
	return r
}

// of takes out what keeps a pod's manifest from being used; nil if nothing does. What is wanted of the pod is then what the
// manifest said before.
func (r *refusals) of(in *Inputs, pod *v1.Pod) *Finding {
	if !pods.IsStatic(pod) || pod.DeletionTimestamp != nil {
		return nil
	}
	var first subject
	var all []Problem
	for _, s := range r.order {
		// The copy of a manifest is refused because the pod is another file's: that says nothing of the pod.
		if r.by[s] == nil || s.kind != "Pod" || s.name.Namespace != pod.Namespace || s.name.Name+"-"+strings.ToLower(in.Node) != pod.Name {
			continue
		}
		if all == nil {
			first = s
		}
		all = append(all, r.by[s]...)
		delete(r.by, s)
	}
	if all == nil {
		return nil
	}
	f := refusal(first, all)
	f.Cause = "its manifest was edited and is refused, what it said before " + map[bool]string{true: "runs on", false: "is still wanted"}[healthy(pod, in.Now)] + ": " + strings.TrimPrefix(f.Cause, "refused: ")
	return f
}

// rest returns what is about no pod that there is.
func (r *refusals) rest(in *Inputs) []Finding {
	var all []Finding
	for _, s := range r.order {
		if problems := r.by[s]; problems != nil && in.asked(s.name) {
			all = append(all, *refusal(s, problems))
		}
	}
	return all
}

// refusal words the problems of one document: the first, and how many more there are.
func refusal(s subject, problems []Problem) *Finding {
	problems = slices.Clone(problems)
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.rank(), b.rank()) })
	p := problems[0]
	f := &Finding{Kind: s.kind, Namespace: s.name.Namespace, Name: s.name.Name, Cause: "refused: " + join(": ", p.Field, p.Message), Where: p.File, AtOnce: "the file changes"}
	if s.name.Name == "" {
		f.Name = p.File
		f.Kind = "File"
	}
	if p.Line > 0 {
		f.Where = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	if n := len(problems) - 1; n > 0 {
		f.Evidence = fmt.Sprintf("and %d more like it", n)
	}
	f.Fix = mend(p)
	return f
}

// rank orders the problems of one document: what is missing makes what refers to it wrong, and a field that is told is worth
// more than a remark about the whole.
func (p *Problem) rank() int {
	switch {
	case p.Field == "":
		return 3
	case strings.HasPrefix(p.Message, "unknown field"):
		return 0 // it may be what is missing
	case strings.HasPrefix(p.Message, "Required value"):
		return 1
	}
	return 2
}

// mend says what to do about a problem.
func mend(p Problem) string {
	if p.Field == "" {
		switch {
		case strings.HasPrefix(p.Message, "duplicate "):
			return "rename one of them, or remove it"
		case strings.HasPrefix(p.Message, "not YAML"):
			return "correct the YAML"
		case strings.Contains(p.Message, "does not exist"):
			return "make it, if only as an empty directory"
		}
		return "correct the file"
	}
	switch {
	case strings.HasPrefix(p.Message, "unknown field (it is spelt "):
		return "write " + strings.TrimSuffix(after(p.Message, "spelt "), ")") + " for " + lastPart(p.Field)
	case strings.HasPrefix(p.Message, "unknown field"):
		return "remove " + p.Field + ", or start the agent with --manifest-validation=warn, which drops it"
	case strings.HasPrefix(p.Message, "Required value"):
		return "give " + p.Field + " a value"
	case strings.HasPrefix(p.Message, "Duplicate value"):
		return "give " + p.Field + " a value that is not used yet"
	case strings.HasPrefix(p.Message, "Forbidden"):
		return "remove or change " + p.Field
	}
	return "correct " + p.Field
}

func lastPart(field string) string { return field[strings.LastIndexByte(field, '.')+1:] }
